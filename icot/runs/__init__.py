"""Run directories: their files, resuming, rollbacks, sweeps."""
