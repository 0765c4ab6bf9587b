"""Tasks: the source of examples, and how answers are extracted and compared."""
