"""Files, hardware, machine facts and signals."""
