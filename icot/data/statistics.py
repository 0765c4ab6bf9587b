"""Token statistics of a split: the figures of Table 1 (arXiv 2405.14838).

Question, chain and answer are tokenized separately, without the blanks and separators between
them; the answer includes ``####``. For 4x4 digits and GPT-2 the medians are 9, 46, 9.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from transformers import PreTrainedTokenizerBase

from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Example

Spread = tuple[float, int, int]  # median, smallest, largest


@dataclass(frozen=True)
class TokenStatistics:
    """Numbers of tokens of question, chain and answer, over ``examples`` examples."""

    examples: int
    question: Spread
    cot: Spread
    answer: Spread


def token_statistics(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase
) -> TokenStatistics:
    """Count the tokens of each part; needs at least one example."""

    def spread(texts: list[str]) -> Spread:
        counts = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
        return median(counts), min(counts), max(counts)

    return TokenStatistics(
        len(examples),
        spread([e.question for e in examples]),
        spread([e.cot for e in examples]),
        spread([f"{ANSWER_MARK} {e.answer}" for e in examples]),
    )
