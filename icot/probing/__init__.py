"""Looking inside a model: what its hidden states hold, and what its answers depend on."""
