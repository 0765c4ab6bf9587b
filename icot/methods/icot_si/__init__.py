"""Stepwise internalization (ICoT-SI, arXiv 2405.14838)."""
