"""From a question to an answer: prediction, greedy decoding, verification."""
