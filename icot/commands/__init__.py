"""One module per command; each only puts components together."""
