"""What makes two rationales alike: vectors, whose cosine distance is the measure."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from icot.errors import ModelError, first_sentence

Embed = Callable[[Sequence[str]], NDArray[np.float64]]  # n texts to [n, D]


def count_words(texts: Sequence[str]) -> NDArray[np.float64]:
    """How often each word and each pair of neighbouring words is in each of ``texts``, [n, D]."""
    parts = [_words_and_pairs(text) for text in texts]
    column = {part: i for i, part in enumerate(sorted({p for of_one in parts for p in of_one}))}
    counts = np.zeros((len(texts), len(column)))
    for row, of_one in enumerate(parts):
        for part in of_one:
            counts[row, column[part]] += 1
    return counts


def _words_and_pairs(text: str) -> list[tuple[str, ...]]:
    words = words_of(text)
    return [*((word,) for word in words), *pairwise(words)]


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return text.lower().split()


def sentence_embeddings(name_or_path: str) -> Embed:
    """A model of the library sentence-transformers, by hub name or folder.

    Raises:
        ModelError: the library is missing, or there is no such model.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ModelError(
            f"task.embedding={name_or_path} needs the library sentence-transformers: pip install "
            "'icot[embedding]', or leave task.embedding out to compare counts of words."
        ) from None
    try:
        model = SentenceTransformer(name_or_path)
    except Exception as error:  # a damaged folder can raise anything
        raise ModelError(
            f"task.embedding={name_or_path}: {first_sentence(error)}. Set a folder or hub name of "
            "a sentence-transformers model."
        ) from None

    def embed(texts: Sequence[str]) -> NDArray[np.float64]:
        return np.asarray(model.encode(list(texts), show_progress_bar=False), dtype=np.float64)

    return embed
