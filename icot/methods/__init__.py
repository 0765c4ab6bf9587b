"""Methods, a folder each; all share one house."""
