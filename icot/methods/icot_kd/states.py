"""A teacher's states along its chain: one vector a layer, on a diagonal from question to answer.

    layer 2                  t2
    layer 1          t1
    layer 0   t0
            <eos> z1 z2 z3 <eos>      f is the column of the first separator, s of the second

State l is the input of block l at column p_l = min(s, round(f + l Δ)), normalised to mean 0 and
variance 1; round is half to even. With a dynamic Δ = (s - f) / (L - 1) the last state stands at the
second separator (arXiv 2311.01460, section 3).
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from icot.models.forward import parts_of
from icot.models.hidden_states import BlockInputs, blocks_of
from icot.removal import CoTBatch

Subset = Literal["diagonal", "first_column", "last_column", "top_row", "bottom_row"]
EPSILON = 1e-5


def positions(
    first: Tensor, second: Tensor, layers: int, delta: Literal["dynamic"] | int = "dynamic"
) -> Tensor:
    """Columns [B, L] of a teacher's states.

    Args:
        first, second: [B] columns of the two separators.
        layers: L, at least 2.
        delta: columns from one layer to the next, or ``dynamic``: from the first separator to the
            second over all layers.

    Raises:
        ValueError: there is only one layer.
    """
    if layers < 2:
        raise ValueError("the states of a teacher need at least two layers")
    steps = torch.arange(layers, device=first.device)
    first, second = first[:, None], second[:, None]
    if delta == "dynamic":  # the product first: a half is then exact
        further = (steps * (second - first)).double() / (layers - 1)
    else:
        further = (steps * delta).double().expand(len(first), -1)
    return torch.minimum(torch.round(first + further).long(), second)


def places(
    first: Tensor,
    second: Tensor,
    layers: int,
    delta: Literal["dynamic"] | int = "dynamic",
    subset: Subset = "diagonal",
) -> tuple[Tensor, list[int]]:
    """Columns [B, L] of the states of a subset, and the block of each."""
    diagonal = positions(first, second, layers, delta)
    if subset == "first_column":
        return first[:, None].expand_as(diagonal), list(range(layers))
    if subset == "last_column":
        return second[:, None].expand_as(diagonal), list(range(layers))
    if subset == "top_row":
        return diagonal, [layers - 1] * layers
    if subset == "bottom_row":
        return diagonal, [0] * layers
    if subset not in get_args(Subset):
        raise ValueError(f"subset must be one of {', '.join(get_args(Subset))}, not {subset!r}")
    return diagonal, list(range(layers))


class Teacher:
    """A frozen causal LM whose states are read.

    Args:
        model: in evaluation mode from now on; its gradients are off.
        delta, subset: which states.
    """

    def __init__(
        self,
        model: nn.Module,
        delta: Literal["dynamic"] | int = "dynamic",
        subset: Subset = "diagonal",
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.delta: Literal["dynamic"] | int = delta
        self.subset: Subset = subset
        self.depth = len(blocks_of(model))
        self._inputs = BlockInputs(model)
        parts = parts_of(model)
        self._body = model if parts is None else parts.body

    @torch.no_grad()
    def states(self, batch: CoTBatch) -> Tensor:
        """The normalised states [B, L, D] of a batch with whole chains.

        What stands right of the second separator plays no part.
        """
        columns, blocks = places(
            batch.cot_start - 1, batch.cot_end, self.depth, self.delta, self.subset
        )
        needed = int(batch.cot_end.max()) + 1
        with self._inputs.keep(columns) as kept:
            self._body(input_ids=batch.input_ids[:, :needed], use_cache=False)
        return normalize(pick(kept, blocks))


def pick(inputs: Sequence[Tensor], blocks: Sequence[int]) -> Tensor:
    """States [B, L, D]: the l-th kept column of the input of block ``blocks[l]``."""
    return torch.stack([inputs[block][:, i] for i, block in enumerate(blocks)], dim=1)


def normalize(states: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the last dimension, without weights."""
    return nn.functional.layer_norm(states.float(), states.shape[-1:], eps=EPSILON)
