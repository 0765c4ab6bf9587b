"""ICoT-KD: a student that answers from an emulation of a teacher's states (arXiv 2311.01460)."""
