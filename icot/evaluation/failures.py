"""Where a model fails: accuracy by position in the answer and by difficulty."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from icot.evaluation.predictions import Prediction
from icot.evaluation.scoring import ExactMatch

MOST_VALUES = 10  # a number with more values is grouped into intervals
INTERVALS = 8
POSITION = "answer position"


@dataclass(frozen=True)
class Group(ExactMatch):
    """Examples with something in common, and how many of them are correct."""

    label: str
    n: int
    correct: int


def answer_positions(
    predictions: Iterable[Prediction], extract_answer: Callable[[str], str]
) -> list[Group]:
    """How often each symbol of the answer is correct, without the answer mark.

    Symbols are separated by blanks; in an answer without blanks each character is one. A missing
    symbol is wrong; an extra one does not count.
    """
    correct: list[int] = []
    counts: list[int] = []
    for prediction in predictions:
        expected = _symbols(extract_answer(prediction.target))
        written = _symbols(extract_answer(prediction.prediction))
        for position, symbol in enumerate(expected):
            if position == len(counts):
                counts.append(0)
                correct.append(0)
            counts[position] += 1
            correct[position] += position < len(written) and written[position] == symbol
    return [Group(str(i + 1), n, c) for i, (n, c) in enumerate(zip(counts, correct, strict=True))]


def by_difficulty(
    predictions: Sequence[Prediction], numbers: Sequence[Mapping[str, float | str]]
) -> dict[str, list[Group]]:
    """Accuracy by each of the task's measures of difficulty.

    Args:
        predictions: [n] of the examples.
        numbers: [n] the task's ``difficulty`` of each example; some may lack a name.
    """
    names = dict.fromkeys(name for of_one in numbers for name in of_one)
    groups = {}
    for name in names:
        rows = [
            (of_one[name], prediction.correct)
            for prediction, of_one in zip(predictions, numbers, strict=True)
            if name in of_one
        ]
        groups[name] = _group(
            np.array([value for value, _ in rows]), np.array([correct for _, correct in rows])
        )
    return groups


def _group(values: np.ndarray, correct: np.ndarray) -> list[Group]:
    distinct = np.unique(values)
    if distinct.dtype.kind == "U" or len(distinct) <= MOST_VALUES:
        return [
            Group(_label(value), int((values == value).sum()), int(correct[values == value].sum()))
            for value in distinct
        ]
    edges = np.unique(np.quantile(values, np.linspace(0, 1, INTERVALS + 1), method="lower"))
    interval = np.searchsorted(edges[1:-1], values, side="right")
    groups = []
    for i in range(len(edges) - 1):
        inside = interval == i
        low, high = values[inside].min(), values[inside].max()
        label = f"{low:,.0f}" if low == high else f"{low:,.0f}-{high:,.0f}"
        groups.append(Group(label, int(inside.sum()), int(correct[inside].sum())))
    return groups


def _label(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,g}"


def _symbols(answer: str) -> list[str]:
    parts = answer.replace("####", "").split()
    return parts if len(parts) > 1 else list("".join(parts))
