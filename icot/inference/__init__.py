"""Predictors, greedy decoding, verification, and answers to questions."""
