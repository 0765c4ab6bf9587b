"""What is left of a whole batch when it is trained on: worked out on the host, done on the device.

    whole batch --plan(stage)--> the same batch with a plan      on the host, before the transfer
                --apply--------> what the model is trained on    on the device

``apply`` is a pure function of the batch, since all that ``plan`` has found out travels in it.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from icot.data.fillers import NO_FILLER, Filler, remove_and_fill
from icot.data.packing import Layout, layout, locate_supervised_tokens, pack
from icot.removal import (
    IGNORED,
    CoTBatch,
    KeepIds,
    Plan,
    Side,
    length_after,
    whole_chains,
    with_second_separator,
)
from icot.schedule import Stage


class View(Protocol):
    """What a method makes of a batch."""

    @property
    def side(self) -> Side:
        """The end of the chain that a stage removes."""

    @property
    def keep_position_ids(self) -> KeepIds:
        """Whether what follows the removed tokens keeps its position ids, and where they jump."""

    @property
    def separators(self) -> int:
        """Separators between question and answer where the whole chain is removed, 1 or 2."""

    @property
    def filler(self) -> Filler:
        """What stands in place of the removed tokens."""

    def plan(self, batch: CoTBatch, stage: Stage, positions: Tensor) -> CoTBatch:
        """On the host: the batch, perhaps without some of its rows, with a plan for the device.

        Args:
            batch: whole, B rows.
            stage: what the schedule says of this batch.
            positions: [B] each row's place among all examples of the run, over all devices.
        """

    def apply(self, batch: CoTBatch) -> CoTBatch:
        """On the device: what the model is trained on, by the plan in ``batch`` alone."""


@dataclass(frozen=True, kw_only=True)
class StagePlan(Plan):
    """The plan of a ``StageView``.

    Attributes:
        n_removed: [B] tokens to cut out of each chain.
        width: columns that are left.
        layout: where the examples go if several share a row, else None.
    """

    n_removed: Tensor
    width: int
    layout: Layout | None = None


@dataclass(frozen=True)
class StageView:
    """Removes what the stage says, drops what is still too long, and packs rows if asked to.

    Attributes:
        eos_token_id: the separator, which also pads.
        side: the end of the chain that is removed.
        keep_position_ids: what follows the removed tokens keeps its position ids.
        max_train_tokens: examples longer than this after removal are dropped from their batch.
        packing: put several examples into a row.
        width_multiple: batches are padded to a multiple of so many columns, where that is no more
            than their whole examples have.
        with_chains: the plan also has the whole chains.
        separators: 1 removes the second separator with the chain; for a stage that removes all.
        filler: what stands in place of the removed tokens.
    """

    eos_token_id: int
    side: Side = "left"
    keep_position_ids: KeepIds = False
    max_train_tokens: int | None = None
    packing: bool = False
    width_multiple: int = 1
    with_chains: bool = False
    separators: int = 2
    filler: Filler = NO_FILLER

    def draw_offsets(self, stage: Stage, positions: Tensor) -> Tensor:
        """Tokens [B] that each row loses beyond the stage, below 0 where it loses fewer."""
        return torch.zeros_like(positions)

    def plan(self, batch: CoTBatch, stage: Stage, positions: Tensor) -> CoTBatch:
        """On the host: the rows and columns that the stage leaves, and what is supervised there."""
        offsets = self.draw_offsets(stage, positions)
        one = int(self.separators == 1)
        removed = stage.tokens_removed + offsets + one
        left = length_after(batch.lengths, batch.cot_start, batch.cot_end + one, removed)
        fillers = self.filler.counts(batch.lengths - left)
        left = left + fillers
        trained = (batch.labels != IGNORED).any(1)  # not the row of a device without a share
        dropped = 0
        if self.max_train_tokens is not None and int(left.max()) > self.max_train_tokens:
            fits = left <= self.max_train_tokens
            dropped = int((trained & ~fits).sum())
            kept = fits if fits.any() else torch.arange(len(left)) == 0
            trained = (trained & fits)[kept]
            batch, left = batch.rows(kept), left[kept]
            offsets, removed, fillers = offsets[kept], removed[kept], fillers[kept]
            if not fits.any():  # a batch must have a row; this one supervises nothing
                batch = replace(batch, labels=torch.full_like(batch.labels, IGNORED))
        columns = batch.input_ids.shape[1] + self.filler.beyond_whole
        rows = layout(left, columns) if self.packing else None
        plan = StagePlan(
            offsets=offsets,
            places=locate_supervised_tokens(batch, left, rows, fillers, self.filler.supervised),
            tokens=int(left[trained].sum()),
            dropped=dropped,
            chains=whole_chains(batch) if self.with_chains else None,
            n_removed=removed,
            width=-(-int(left.max()) // self.width_multiple) * self.width_multiple,
            layout=rows,
        )
        return replace(batch, plan=plan)

    def apply(self, batch: CoTBatch) -> CoTBatch:
        """On the device: the removal, the fillers, and the packing."""
        plan = batch.plan
        assert isinstance(plan, StagePlan)
        if self.separators == 1:
            batch = with_second_separator(batch)
        short = remove_and_fill(
            batch, plan.n_removed, self.side, self.keep_position_ids, self.filler
        )
        if plan.layout is not None:
            return pack(short, plan.layout, self.eos_token_id)
        return short.columns(plan.width)
