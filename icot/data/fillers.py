"""Filler tokens: what a model is given in place of removed tokens, to keep the room to compute.

    question <eos> z1 z2 z3 z4 <eos> #### y <eos>         the whole example
    question <eos> F  F  z3 z4 <eos> #### y <eos>         two removed from the left, one for one
    question <eos> F  F  z1 z2 <eos> #### y <eos>         two from the right
    question <eos> F  F  F  z3 z4 <eos> #### y <eos>      two from the left, a fixed count of three
                            ^cot_start

Fillers stand behind the question's separator, wherever the chain is cut: there they end the prompt,
so a model is given all of them and writes none. Their position ids count on from the separator's.
The loss leaves them out, or takes in the first one of each example.

(A token of its own behind the prefix, without a loss: arXiv 2310.02226. Fillers in place of a
chain: arXiv 2404.15758.)
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from icot.config.options import ScheduleOptions
from icot.removal import IGNORED, CoTBatch, KeepIds, Side, remove_cot

FILLER = "<filler>"
CountT = TypeVar("CountT", int, Tensor, NDArray[np.int64])


@dataclass(frozen=True)
class Filler:
    """Which fillers an example gets.

    Attributes:
        token_id: of the filler; -1 where there is none.
        count: of each example at every stage; None is one for each token that it has lost.
        supervised: the first filler of each example is supervised.
    """

    token_id: int = -1
    count: int | None = 0
    supervised: bool = False

    @property
    def beyond_whole(self) -> int:
        """Tokens that an example can be longer than its whole text."""
        return self.count or 0

    def counts(self, removed: CountT) -> CountT:
        """Fillers of an example that has lost so many tokens, a number, or [B] of several."""
        return removed if self.count is None else removed * 0 + self.count

    def insert(self, short: CoTBatch, removed: Tensor) -> CoTBatch:
        """Put fillers behind the separators of a padded batch, ``beyond_whole`` columns wider.

        Args:
            short: [B, T], with room for a filler for each token that is removed.
            removed: [B] tokens that each row has lost.

        Returns:
            The batch with ``cot_start``, ``cot_end`` and ``lengths`` moved: what stands before
            ``cot_start`` is the prompt. Position ids that jump do so between the same tokens, or
            behind the fillers where it was behind the separator.
        """
        counts, start = self.counts(removed)[:, None], short.cot_start[:, None]
        width = short.input_ids.shape[1]
        column = torch.arange(width + self.beyond_whole, device=removed.device)[None]
        is_filler = (column >= start) & (column < start + counts)
        behind = column >= start + counts
        source = torch.where(is_filler, start - 1, column - counts * behind).clamp(max=width - 1)
        position_ids = short.position_ids
        if position_ids is not None:
            further = torch.where(is_filler, column - start + 1, counts * behind)
            position_ids = position_ids.gather(1, source) + further
        lengths = short.lengths + counts[:, 0]
        labels = short.labels.gather(1, source)
        labels = labels.masked_fill(is_filler | (column >= lengths[:, None]), IGNORED)
        if self.supervised:
            first = is_filler & (column == start) & (labels != IGNORED).any(1, keepdim=True)
            labels = labels.masked_fill(first, self.token_id)
        return replace(
            short,
            input_ids=short.input_ids.gather(1, source).masked_fill(is_filler, self.token_id),
            labels=labels,
            cot_start=short.cot_start + counts[:, 0],
            cot_end=short.cot_end + counts[:, 0],
            lengths=lengths,
            position_ids=position_ids,
        )


NO_FILLER = Filler()


def remove_and_fill(
    batch: CoTBatch,
    n_removed: Tensor,
    side: Side,
    keep_position_ids: KeepIds,
    filler: Filler,
) -> CoTBatch:
    """What is left of a whole batch: ``remove_cot``, and fillers where there are any."""
    short = remove_cot(batch, n_removed, side, keep_position_ids)
    return short if filler == NO_FILLER else filler.insert(short, batch.lengths - short.lengths)


def filler_of(schedule: ScheduleOptions, tokenizer: PreTrainedTokenizerBase) -> Filler:
    """The fillers of a run's schedule."""
    if schedule.filler == "none":
        return NO_FILLER
    return Filler(filler_id(tokenizer), schedule.filler_count, schedule.supervise_filler)


def add_filler(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Give a tokenizer the filler as a special token, unless it has it; returns the tokenizer."""
    tokenizer.add_tokens([FILLER], special_tokens=True)
    return tokenizer


def filler_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The filler's token."""
    token_id = tokenizer.convert_tokens_to_ids(FILLER)
    assert isinstance(token_id, int)
    assert token_id != tokenizer.unk_token_id
    return token_id
