"""Training methods, one folder each; all share the rest of the framework."""
