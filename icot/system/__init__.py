"""What the machine offers and asks: files, hardware, signals."""
