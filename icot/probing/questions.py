"""The held-out questions of a task, and what can be asked of each: chain tokens and quantities."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icot.data.tokenized import TokenizedSplit
from icot.probing.linear import ABSENT
from icot.tasks.base import Example, Split, Task

HELD_OUT: tuple[Split, ...] = ("valid", "test")


class HeldOut(Task):
    """The examples of a task's validation and test splits, as one split; each question once."""

    def __init__(self, task: Task) -> None:
        self.name, self._task = f"{task.name}-held-out", task

    def size(self, split: Split) -> int | None:
        """Unknown: a question may repeat."""
        return None

    def chunks(self, split: Split) -> Iterator[list[Example]]:
        """First those of the validation split."""
        seen: set[str] = set()
        for part in HELD_OUT:
            for chunk in self._task.chunks(part) if self._task.size(part) != 0 else ():
                new: dict[str, Example] = {}
                for example in chunk:
                    if example.question not in seen:
                        new.setdefault(example.question, example)
                seen.update(new)
                yield list(new.values())

    def fingerprint(self, split: Split) -> Mapping[str, Any]:
        """Those of the two splits."""
        return {"held_out": [dict(self._task.fingerprint(part)) for part in HELD_OUT]}

    def leaves_out(self, split: Split, example: Example) -> bool:
        """As the task says of its validation split."""
        return self._task.leaves_out("valid", example)


@dataclass(frozen=True)
class Targets:
    """What probes are to read: K things that have a value in each of n examples.

    Attributes:
        names: ``z3`` for the third token of the chain, or a quantity's name.
        values: [n, K] numbers of the values, ``ABSENT`` where an example has none.
        tokens: the first so many are tokens of the chain, the others quantities.
    """

    names: list[str]
    values: NDArray[np.int64]
    tokens: int

    def varying(self, learned: int) -> "Targets":
        """Only those with more than one value in the first ``learned`` examples."""
        some = [np.unique(column[column != ABSENT]).size > 1 for column in self.values[:learned].T]
        kept = np.flatnonzero(some)
        return Targets(
            [self.names[k] for k in kept], self.values[:, kept], int((kept < self.tokens).sum())
        )


def find_targets(
    store: TokenizedSplit,
    rows: NDArray[np.int64],
    quantities: Sequence[Mapping[str, float | str]],
    wanted: Sequence[int] | None,
) -> Targets:
    """The chain's tokens, removed ones too, and the quantities, of the examples ``rows`` [n].

    Args:
        store: of the examples.
        rows: which of them.
        quantities: [n] of each example, by name.
        wanted: the chain's tokens to ask for, counted from 1; None is all.
    """
    numbers = np.arange(1, store.longest_cot + 1) if wanted is None else np.unique(wanted)
    length = (store.cot_end - store.cot_start)[rows]
    first = (store.offsets[:-1] + store.cot_start)[rows]
    is_there = numbers[None] <= length[:, None]
    place = np.where(is_there, first[:, None] + numbers[None] - 1, 0)
    tokens = np.where(is_there, store.tokens[place].astype(np.int64), ABSENT)
    names = list(dict.fromkeys(name for of_one in quantities for name in of_one))
    columns = [
        [str(of_one[name]) if name in of_one else None for of_one in quantities] for name in names
    ]
    return Targets(
        [*(f"z{i}" for i in numbers), *names],
        np.column_stack([tokens, *map(_number, columns)]),
        len(numbers),
    )


def question_tokens(store: TokenizedSplit, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """[Q, n] the tokens of questions, counted from their ends; ``ABSENT`` where one is shorter."""
    end = store.cot_start[rows].astype(np.int64) - 1
    place = end[None] - 1 - np.arange(int(end.max()))[:, None]
    inside = np.where(place >= 0, store.offsets[rows][None] + place, 0)
    return np.where(place >= 0, store.tokens[inside].astype(np.int64), ABSENT)


def _number(values: Sequence[str | None]) -> NDArray[np.int64]:
    """Equal numbers for equal texts."""
    order = {text: i for i, text in enumerate(sorted({v for v in values if v is not None}))}
    return np.array([ABSENT if v is None else order[v] for v in values], dtype=np.int64)
