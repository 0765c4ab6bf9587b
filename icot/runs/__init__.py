"""Run directories: what lies in them, going on with one, going back, sweeps of them."""
