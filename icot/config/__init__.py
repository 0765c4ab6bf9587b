"""The configuration: keys, types, checks, and what a run directory keeps of it."""
