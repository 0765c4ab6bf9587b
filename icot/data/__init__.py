"""Token stores, samplers, batches of whole examples, and the views that shorten them."""
