"""Removing chain-of-thought tokens from a batch (arXiv 2405.14838, section 3).

A batch is stored whole and right-padded; a row of it is, for question x, chain z, answer y,

    x1 x2 x3 <eos> z1 z2 z3 z4 <eos> #### y1 <eos> pad pad      labels: all after the first <eos>
                   ^cot_start  ^cot_end

and with two tokens removed from the left it becomes

    x1 x2 x3 <eos> z3 z4 <eos> #### y1 <eos> pad pad pad pad

Pure functions of tensors: no Python loop over rows, no device synchronisation.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IGNORED = -100  # a label that is not supervised
OFFSETS = 100  # smoothing offsets reach from 0 to 99

Side = Literal["left", "right"]
# Whether what follows the removed tokens keeps its position ids, and where these then jump: at the
# cut, or already at the separator before the chain, whose id so tells how much is missing.
KeepIds = bool | Literal["from_separator"]
LengthsT = TypeVar("LengthsT", Tensor, NDArray[np.int64])


@dataclass(frozen=True)
class Plan:
    """What the host has worked out for a batch; it travels in the batch to the device.

    A view that has more to say to its device half subclasses this.

    Attributes:
        offsets: [B] tokens that smoothing removes beyond the stage, None for none.
        places: [N, 2] row and column of each supervised token, which spares a GPU a
            synchronisation; None where they are to be read from the labels.
        tokens: that are trained on in this batch on this device, without padding.
        dropped: examples that were left out of this batch as too long, on this device.
        skipped: the batch is not trained on.
        chains: each row's whole chain; None where they are not needed.
    """

    offsets: Tensor | None = None
    places: Tensor | None = None
    tokens: int = 0
    dropped: int = 0
    skipped: bool = False
    chains: "Chains | None" = None


@dataclass(frozen=True)
class Chains:
    """The whole chains of a batch, before anything is removed.

    Attributes:
        tokens: [B, L], L tokens the longest, with -100 behind the end of each. A row that
            supervises nothing has none.
        questions: [B] tokens of each question, its separator with it.
        longest_question: the largest of these numbers.
    """

    tokens: Tensor
    questions: Tensor
    longest_question: int


@dataclass(frozen=True)
class CoTBatch:
    """A right-padded batch of B rows and T columns that knows where its chains lie.

    Attributes:
        input_ids: [B, T] token ids.
        labels: [B, T] the same ids where supervised, -100 elsewhere (not shifted).
        cot_start: [B] index of a chain's first token, behind fillers where there are any.
        cot_end: [B] index after a chain's last token, where the second separator stands.
        lengths: [B] tokens of a row before the padding.
        position_ids: [B, T], or None for 0..T-1.
        examples: [B] the rows' numbers in their split, or None where they are not known.
        owners: [R, W] whose token each is, where several examples share a row
            (``icot.data.packing``): all that is [B, T] is [R, W] then, and position ids count from
            each example's start.
        plan: what the host half of a view has worked out, None before it has.
    """

    input_ids: Tensor
    labels: Tensor
    cot_start: Tensor
    cot_end: Tensor
    lengths: Tensor
    position_ids: Tensor | None = None
    examples: Tensor | None = None
    owners: Tensor | None = None
    plan: Plan | None = None

    @property
    def places(self) -> Tensor | None:
        """[N, 2] row and column of each supervised token where the plan says so, else None."""
        return None if self.plan is None else self.plan.places

    def to(self, device: Any, non_blocking: bool = False) -> "CoTBatch":
        """The batch, its plan with it, on ``device``."""
        return map_tensors(self, lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "CoTBatch":
        """The batch, its plan with it, in page-locked memory."""
        return map_tensors(self, lambda t: t.pin_memory())

    def rows(self, index: Tensor) -> "CoTBatch":
        """The rows named by ``index`` [b] or a mask [B], without a plan; not of a packed batch."""
        return map_tensors(replace(self, plan=None), lambda t: t[index])

    def columns(self, width: int) -> "CoTBatch":
        """The first ``width`` columns; the caller knows that only padding is cut off."""
        short = map_tensors(replace(self, plan=None), lambda t: t[:, :width] if t.dim() == 2 else t)
        return replace(short, plan=self.plan)

    def of_examples(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """The example [N] that each place (row, column) [N, 2] is in, and its position there."""
        row, column = places.unbind(1)
        if self.owners is None:
            return row, column
        assert self.position_ids is not None
        return self.owners[row, column], self.position_ids[row, column]


DataclassT = TypeVar("DataclassT")


def map_tensors(record: DataclassT, function: Callable[[Tensor], Tensor]) -> DataclassT:
    """A dataclass with ``function`` applied to each tensor in it and in dataclasses inside it."""
    assert is_dataclass(record)
    changed: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if torch.is_tensor(value):
            changed[field.name] = function(value)
        elif is_dataclass(value):
            changed[field.name] = map_tensors(value, function)
    return replace(record, **changed)  # type: ignore[type-var]


def length_after(lengths: LengthsT, cot_start: Any, cot_end: Any, n_removed: Any) -> LengthsT:
    """Tokens [B] that are left of each row once ``n_removed`` are cut out of its chain.

    Args:
        lengths: [B] tokens of each row, a tensor or an array; the others are of the same kind.
        cot_start: [B] index of each chain's first token.
        cot_end: [B] index after its last one.
        n_removed: [B] how many, or one number for all; clamped to 0 and to each chain's length.
    """
    left: LengthsT = lengths - (cot_end - cot_start).clip(max=n_removed).clip(min=0)
    return left


def remove_cot(
    batch: CoTBatch,
    n_removed: Tensor,
    side: Side = "left",
    keep_position_ids: KeepIds = False,
) -> CoTBatch:
    """Cut ``n_removed`` tokens out of each chain and close the gap; the width stays T.

    Args:
        batch: whole, or already shortened.
        n_removed: [B] how many; clamped to 0 and to each chain's length.
        side: the end of the chain that is cut: ``left`` its start, ``right`` its end.
        keep_position_ids: what follows the cut keeps its position ids, so that they jump there
            by the number of removed tokens (Appendix C). Otherwise positions count anew.
            ``from_separator`` lets them jump one token before the chain; ``side`` is ``left``.

    Returns:
        The batch with ``cot_end`` and ``lengths`` moved; columns from a row's length on hold the
        whole batch's last column and are not supervised.

    Raises:
        ValueError: an unknown side.
    """
    if side not in get_args(Side):
        raise ValueError(f"side must be one of {', '.join(get_args(Side))}, not {side!r}")
    lengths = length_after(batch.lengths, batch.cot_start, batch.cot_end, n_removed)
    removed = batch.lengths - lengths
    first = batch.cot_start if side == "left" else batch.cot_end - removed
    last_column = batch.input_ids.shape[1] - 1
    column = torch.arange(last_column + 1, device=batch.input_ids.device)[None]  # [1, T]
    after_cut = column >= first[:, None]
    source = (column + removed[:, None] * after_cut).clamp(max=last_column)  # [B, T]
    position_ids = batch.position_ids
    if keep_position_ids:
        position_ids = source if position_ids is None else position_ids.gather(1, source)
        if keep_position_ids == "from_separator":
            position_ids = position_ids + removed[:, None] * (
                column == batch.cot_start[:, None] - 1
            )
    return replace(
        batch,
        input_ids=batch.input_ids.gather(1, source),
        labels=batch.labels.gather(1, source).masked_fill(column >= lengths[:, None], IGNORED),
        cot_end=batch.cot_end - removed,
        lengths=lengths,
        position_ids=position_ids,
    )


def with_second_separator(batch: CoTBatch) -> CoTBatch:
    """The batch with the separator behind each chain as the chain's last token."""
    return replace(batch, cot_end=batch.cot_end + 1)


def whole_chains(batch: CoTBatch) -> Chains:
    """The chains of a batch from which nothing is removed. For the host: a GPU would wait."""
    lengths = (batch.cot_end - batch.cot_start) * (batch.labels != IGNORED).any(1)
    place = torch.arange(max(1, int(lengths.max())), device=lengths.device)[None]
    column = (batch.cot_start[:, None] + place).clamp(max=batch.input_ids.shape[1] - 1)
    tokens = batch.input_ids.gather(1, column).masked_fill(place >= lengths[:, None], IGNORED)
    return Chains(tokens, batch.cot_start, int(batch.cot_start.max()))


def offset_probabilities(smoothing_lambda: float, size: int = OFFSETS) -> Tensor:
    """P(o) for o = 0..size-1, proportional to exp(-lambda o), the tail's mass in the last bin.

    Lambda 4 gives 0.98168, 0.01798, 0.00033, ...; lambda = inf puts all mass on 0.

    Returns:
        [size] probabilities in float64.

    Raises:
        ValueError: a lambda that is not above zero (no such distribution exists).
    """
    if not smoothing_lambda > 0:
        raise ValueError(f"smoothing_lambda must be above 0, not {smoothing_lambda}")
    reached = torch.exp(-smoothing_lambda * torch.arange(1, size, dtype=torch.float64))
    tail = torch.cat([torch.ones(1, dtype=torch.float64), reached])  # P(offset >= o)
    return tail - torch.cat([reached, torch.zeros(1, dtype=torch.float64)])


def draw_offsets(smoothing_lambda: float, seed: int, position: Tensor) -> Tensor:
    """Smoothing offsets [B]; each depends on the seed and the row's own position alone.

    ``position`` [B] counts the examples of the whole run (step times the global batch plus the row
    in it), so a resumed run, and a run on two devices, draw the same.
    """
    bounds = offset_probabilities(smoothing_lambda).cumsum(0)[:-1]
    return torch.searchsorted(bounds, _uniform(seed, position), right=True)


def draw_dial(share: float, seed: int, position: Tensor, tokens_removed: int) -> Tensor:
    """How many tokens [B] fewer than ``tokens_removed`` each row loses.

    A ``share`` of the rows loses any number from 0 to ``tokens_removed - 1``, each equally often,
    the others lose ``tokens_removed``. As ``draw_offsets``, of which it is independent.
    """
    drawn = _uniform(~seed, position) / max(share, 2.0**-53)
    return torch.where(drawn < 1, tokens_removed - (drawn * tokens_removed).floor(), 0.0).long()


def _uniform(seed: int, position: Tensor) -> Tensor:
    """A number in [0, 1) for each position: the splitmix64 generator (Steele et al. 2014)."""
    z = _mix(torch.tensor(seed, dtype=torch.int64)) + (position.long() + 1) * -0x61C8864680B583EB
    return _shift_right(_mix(z), 11).double() * 2.0**-53


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * -0x40A7B892E31B1A47
    z = (z ^ _shift_right(z, 27)) * -0x6B2FB644ECCEEE15
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """A logical shift: int64 shifts carry the sign down, which is masked away."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
