"""Prompting: a model that icot has not trained answers from a few examples (Tables 2 and 3)."""
