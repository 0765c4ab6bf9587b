"""Texts that a model or a server could send."""

import random
from collections.abc import Iterator


def hostile_texts(count: int) -> Iterator[str]:
    """So many texts, and one of a megabyte for each 2,000."""
    rng = random.Random(1)
    pieces = (
        *("####", "#### ", "###", "A: ", "Q: ", "12", "1,234", "$", "-", ".", "\n", "\r\n", "\t"),
        *("\0", "\x1b[31m", "\u202e", "\ufeff", "\u2028", "٣", "九", "🎲", "é", "(", "b)", "||"),
        *("<eos>", "<|endoftext|>", "</s>", "{", '"', "\\", "%s", "{0}", "e9", "inf", "nan"),
        *(" ", "  ", "\u00a0", "x" * 500, "9" * 5000),
    )
    for i in range(count):
        if i % 2000 == 0:
            yield rng.choice(pieces) * (2**20 // 2) + "#### 12"  # a megabyte and more
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(12)))
        yield text[: rng.randrange(len(text) + 1)]
