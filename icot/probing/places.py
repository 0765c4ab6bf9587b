"""Places of a sequence by names that mean the same at each stage and in questions of any length.

    5   6   *   4   3   <eos> 5   5   +   0   <eos> #### 1   2   <eos>
    x-5 x-4 x-3 x-2 x-1 sep   z1  z2  z3  z4  end   y1   y2  y3

Tokens of the question are counted from its end; those of the chain as in the whole chain, so a
token keeps its name when others are removed. The last <eos> has no name: nothing comes after it.
Fillers are f1, f2, ..., counted from the separator.
"""

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from icot.config.checks import choose
from icot.data.staged import StagedExamples
from icot.errors import ConfigError
from icot.removal import CoTBatch, Side

SEPARATOR, END = "sep", "end"
PARTS = {"question": "x", "filler": "f", "chain": "z", "answer": "y"}
NAMED = re.compile(r"(x-|f|z|y)([1-9]\d*)")
NOWHERE = -1


def names_of(examples: StagedExamples) -> list[str]:
    """The names of all places of examples at their stage, in order."""
    store, removed = examples.store, examples.tokens_removed
    lengths = np.diff(store.offsets)
    question = int(store.cot_start.max()) - 1
    first, last = (removed, 0) if examples.side == "left" else (0, removed)
    answer = int((lengths - store.cot_end).max()) - 2
    return [
        *(f"x-{i}" for i in range(question, 0, -1)),
        SEPARATOR,
        *(f"f{i}" for i in range(1, examples.filler.counts(removed) + 1)),
        *(f"z{i}" for i in range(first + 1, store.longest_cot - last + 1)),
        END,
        *(f"y{i}" for i in range(1, answer + 1)),
    ]


def choose_places(names: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """Those of ``names`` that are wanted, by name or by part; None wants all.

    Raises:
        ConfigError: nothing is called so.
    """
    if wanted is None:
        return list(names)
    known = [*PARTS, SEPARATOR, END]
    wrong = [w for w in wanted if w not in known and not NAMED.fullmatch(w)]
    if wrong:
        raise ConfigError(
            [f"positions: {w}: {choose(w, [*known, 'x-1', 'z1', 'y1'])}" for w in wrong]
        )
    parts = {PARTS.get(w, w) for w in wanted}
    return [name for name in names if name in parts or (name not in known and name[0] in parts)]


def places_before(target: str, names: Sequence[str], order: Sequence[str]) -> int:
    """How many places come before the one where ``target`` is written; all if it is not written.

    Args:
        target: the name of a chain's token, or of something else.
        names: of some places, in order.
        order: the names of all places of the stage.
    """
    if target not in order:
        return len(names)
    return sum(order.index(name) < order.index(target) for name in names)


def columns_of(
    batch: CoTBatch, removed: Tensor, fillers: Tensor, names: Sequence[str], side: Side
) -> Tensor:
    """The columns [B, P] of places, ``NOWHERE`` in rows that do not have them.

    Args:
        batch: of B rows, at a stage.
        removed: [B] tokens that were removed from each chain.
        fillers: [B] that each row has.
        names: P of them.
        side: where they were removed.
    """
    found = [_column(batch, removed, fillers, name, side) for name in names]
    return torch.stack(found, dim=1)


def _column(batch: CoTBatch, removed: Tensor, fillers: Tensor, name: str, side: Side) -> Tensor:
    start, end = batch.cot_start, batch.cot_end
    separator = start - fillers - 1
    if name == SEPARATOR:
        return separator
    if name == END:
        return end
    match = NAMED.fullmatch(name)
    assert match is not None
    part, number = match[1], int(match[2])
    if part == "x-":
        return (separator - number).clamp(min=NOWHERE)
    if part == "f":
        return (separator + number).masked_fill(number > fillers, NOWHERE)
    if part == "y":
        column, is_there = end + number, end + number < batch.lengths - 1
        return column.masked_fill(~is_there, NOWHERE)
    before = removed if side == "left" else torch.zeros_like(removed)
    column = start + number - 1 - before
    return column.masked_fill((column < start) | (column >= end), NOWHERE)
