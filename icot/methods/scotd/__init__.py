"""SCoTD: a small model learns from many rationales of a large one (arXiv 2306.14050)."""
