"""One module a command: composition and nothing else."""
