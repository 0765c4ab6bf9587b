"""Benchmarks of icot against a plain training loop."""
