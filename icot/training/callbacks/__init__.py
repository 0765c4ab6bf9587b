"""The callbacks of a run: schedule, validation, checkpoints, records."""
