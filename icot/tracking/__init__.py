"""Weights & Biases, and throughput for loggers."""
