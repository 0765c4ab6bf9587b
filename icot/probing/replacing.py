"""The causal check: does what is written follow a state that is put in place of a question's own?

For pairs of questions A and B, the state of B at one layer and place replaces that of A, while the
model reads the whole correct sequence of A. Each token that it would write after that place is
compared with B's at the same place and with what it would write else, where A's and B's differ:

    A  x x x <eos> #### 1 4      B  x x x <eos> #### 2 4
                ^ B's state          written: 2, which follows B
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from icot.data.staged import StagedExamples
from icot.models.forward import supervised_logits
from icot.models.hidden_states import Overwriting
from icot.models.introspection import device_of
from icot.probing.places import END, NOWHERE
from icot.probing.states import States, batch_with_columns

UNKNOWN = -2  # not written, or written before the replaced place
Place = tuple[int, int]  # a layer and a place, by their indices in the states
# From the numbers of a batch's pairs [B] and the columns [B] to replace at.
Put = Callable[[NDArray[np.int64], Tensor], AbstractContextManager[None]]


@dataclass(frozen=True)
class Following:
    """How often written tokens follow the other question, when one place's state is replaced.

    Attributes:
        layer, position: the place, by name.
        names: [T] the written tokens that come after it and differ in some pair.
        pairs: [T] pairs in which the two questions differ in that token.
        follows: [T] of these, how often the other question's token is written.
        stays: [T] how often the token that is written without a replacement.
        before: [T] how often the other question's token is written without a replacement.
    """

    layer: int
    position: str
    names: list[str]
    pairs: list[int]
    follows: list[int]
    stays: list[int]
    before: list[int]

    def as_dict(self) -> dict[str, Any]:
        """For probe.json."""
        tokens = zip(self.names, self.pairs, self.follows, self.stays, self.before, strict=True)
        return {
            "layer": self.layer,
            "position": self.position,
            "written": [
                {
                    "token": name,
                    "pairs": pairs,
                    "follows": round(follows / pairs, 4),
                    "stays": round(stays / pairs, 4),
                    "follows_without": round(before / pairs, 4),
                }
                for name, pairs, follows, stays, before in tokens
            ],
        }


def replace_states(
    model: nn.Module,
    examples: StagedExamples,
    states: States,
    index: NDArray[np.int64],
    places: Sequence[Place],
    written: Sequence[str],
    batch_size: int,
) -> list[Following]:
    """Replace the state of each example by that of the next one, at one place after the other.

    Args:
        model: whose states these are.
        examples: in random order, at the same stage as the states.
        states: of the same examples.
        index: [m] which of them to pair.
        places: to replace at, at a layer that has a block behind it.
        written: the names of the tokens that the model writes.
        batch_size: examples in a forward pass.

    Returns:
        Those of the places after which a token is written that differs in some pair.
    """
    device, paired = device_of(model), examples.part(index)
    own, plain = _written(model, paired, written, batch_size)
    other, donors = np.roll(own, -1, axis=0), np.roll(index, -1)
    overwriting = Overwriting(model)
    found = []
    for layer, place in places:
        has = states.tokens[place] != NOWHERE
        there = has[index] & has[donors]
        put = partial(_put, overwriting, states, layer, place, there, donors, device)
        position = states.names[place]
        _, changed = _written(model, paired, written, batch_size, position, put)
        one = _compare(states.layers[layer], position, written, there, own, other, plain, changed)
        if one.names:
            found.append(one)
    return found


def _put(
    overwriting: Overwriting,
    states: States,
    layer: int,
    place: int,
    there: NDArray[np.bool_],
    donors: NDArray[np.int64],
    device: torch.device,
    batch: NDArray[np.int64],
    columns: Tensor,
) -> AbstractContextManager[None]:
    """The donors' states in place of those of a batch of pairs [B], at their columns [B]."""
    kept = np.flatnonzero(there[batch])
    given: list[Tensor | None] = [None] * overwriting.depth
    given[states.layers[layer]] = states.at(layer, place, donors[batch[kept]], device)
    rows = torch.from_numpy(kept).to(device)
    return overwriting.put(rows, columns[rows], given)


def _compare(
    layer: int,
    position: str,
    written: Sequence[str],
    there: NDArray[np.bool_],
    own: NDArray[np.int64],
    other: NDArray[np.int64],
    plain: NDArray[np.int64],
    changed: NDArray[np.int64],
) -> Following:
    differ = (own != other) & (own != NOWHERE) & (other != NOWHERE) & there[:, None]
    differ &= changed != UNKNOWN
    shown = np.flatnonzero(differ.any(0)).tolist()

    def count(same: NDArray[np.bool_]) -> list[int]:
        return [int((same & differ)[:, i].sum()) for i in shown]

    return Following(
        layer,
        position,
        [written[i] for i in shown],
        count(differ),
        count(changed == other),
        count(changed == plain),
        count(plain == other),
    )


@torch.no_grad()
def _written(
    model: nn.Module,
    examples: StagedExamples,
    names: Sequence[str],
    batch_size: int,
    replaced: str | None = None,
    put: Put | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The correct tokens [n, T] at ``names``, and what the model writes there."""
    device, n = device_of(model), len(examples)
    correct = np.full((n, len(names)), NOWHERE, dtype=np.int64)
    found = np.full((n, len(names)), UNKNOWN, dtype=np.int64)
    for start in range(0, n, batch_size):
        index = np.arange(start, min(start + batch_size, n))
        all_names = [*names, replaced or END]
        batch, columns = batch_with_columns(examples, index, all_names, device)
        columns, at = columns[:, :-1], columns[:, -1]
        with nullcontext() if put is None else put(index, at):
            logits, _, places = supervised_logits(model, batch)
        row, column = places.unbind(1)
        predicted = torch.full_like(batch.input_ids, UNKNOWN)
        predicted[row, column] = logits.argmax(-1)
        there = columns != NOWHERE
        inside = columns.clamp(min=0)
        tokens = batch.input_ids.gather(1, inside).masked_fill(~there, NOWHERE)
        says = predicted.gather(1, inside)
        if put is not None:  # what stands at the place or before it was written already
            there &= columns > at[:, None]
        correct[index] = tokens.cpu().numpy()
        found[index] = says.masked_fill(~there, UNKNOWN).cpu().numpy()
    return correct, found
