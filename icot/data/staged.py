"""Held-out examples at a stage: stored whole, shortened in each batch, without offsets.

question <eos> z1 z2 z3 z4 <eos> #### y <eos>      in the store
question <eos> z3 z4 <eos> #### y <eos>            at the stage that removes two tokens

Fillers (``icot.data.fillers``) belong to the prompt, and to no target.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from icot.data.batches import collate
from icot.data.fillers import NO_FILLER, Filler, remove_and_fill
from icot.data.tokenized import TokenizedSplit
from icot.removal import CoTBatch, KeepIds, Side, length_after, with_second_separator
from icot.tasks.base import Example

CHUNK = 4096  # rows per batch where all rows are read


def unknown_chain(store: TokenizedSplit, written: int) -> int:
    """The tokens of a chain that a model writes, if no example of the split has a chain; else 0."""
    return max(0, written) if store.longest_cot == 0 else 0


@dataclass(frozen=True)
class StagedExamples:
    """Some rows of a split with ``tokens_removed`` tokens removed from each chain.

    Attributes:
        store: the split.
        rows: [n] indices of its examples.
        tokens_removed: from each chain, clamped to its length.
        eos_token_id: the separator, also used for padding.
        side: the end of the chain to remove from.
        keep_position_ids: whether tokens after the removed ones keep their position ids, and where
            these jump.
        separators: 1 removes the second separator with the whole chain; part of a chain keeps both.
        max_new_tokens: tokens that may be written if that is more than the longest correct output;
            0 adds ``unknown_chain`` to it.
        filler: what the prompts have in place of the removed tokens.
        unknown_chain: tokens of the chain that a model has learned to write, where no example of
            the split has one, as in multiple choice; else 0.
    """

    store: TokenizedSplit
    rows: NDArray[np.int64]
    tokens_removed: int
    eos_token_id: int
    side: Side = "left"
    keep_position_ids: KeepIds = False
    max_new_tokens: int = 0
    separators: int = 2
    filler: Filler = NO_FILLER
    unknown_chain: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """[n] tokens of each example at the stage, its fillers with them."""
        return self._lengths_of_split[self.rows] + self.fillers

    @cached_property
    def _lengths_of_split(self) -> NDArray[np.int64]:
        """Tokens of each example of the whole split at the stage, without fillers."""
        store = self.store
        whole = np.asarray(np.diff(store.offsets))
        left = length_after(whole, store.cot_start, store.cot_end, self.tokens_removed)
        return left - self.has_one_separator

    @property
    def has_one_separator(self) -> bool:
        """Whether the second separator is removed with the chains, which are removed whole."""
        return self.separators == 1 and self.tokens_removed >= self.store.longest_cot

    @cached_property
    def fillers(self) -> NDArray[np.int64]:
        """[n] fillers of each example."""
        return self.filler.counts(self.whole_lengths - self._lengths_of_split[self.rows])

    @cached_property
    def whole_lengths(self) -> NDArray[np.int64]:
        """[n] tokens of each example before anything is removed."""
        return np.diff(self.store.offsets)[self.rows]

    @cached_property
    def target_lengths(self) -> NDArray[np.int64]:
        """[n] tokens of each correct output at the stage, including separators."""
        return self._lengths_of_split[self.rows] - self.store.cot_start[self.rows]

    @cached_property
    def positions(self) -> int:
        """The number of positions that the examples need at the stage."""
        if not self.keep_position_ids:
            return int(self.lengths.max())
        return int((self.whole_lengths + self.fillers).max())

    @property
    def position_jump(self) -> tuple[int | None, int]:
        """The position at which ids jump over the removed tokens, and the largest jump.

        Of the whole split, which the model is meant for, not only of ``rows``. The position is None
        if examples differ in it or in the jump; the jump is 0 if ids do not jump.
        """
        if not self.keep_position_ids:
            return None, 0
        jumps = np.diff(self.store.offsets) - self._lengths_of_split
        positions = self.store.cot_start + self.filler.counts(jumps)
        if self.keep_position_ids == "from_separator":
            positions = self.store.cot_start - 1
        elif self.side == "right":
            positions = self.store.cot_end - jumps + self.filler.counts(jumps)
        same = len(np.unique(positions)) == 1 and len(np.unique(jumps)) == 1
        return int(positions[0]) if same else None, int(jumps.max())

    @property
    def texts(self) -> list[Example]:
        """The examples as text, with their whole chains.

        Raises:
            ValueError: the store is on disk and has only tokens.
        """
        if self.store.texts is None:
            raise ValueError("a store on disk has no texts; use tokenize_examples")
        return [self.store.texts[row] for row in self.rows]

    def at(self, tokens_removed: int) -> "StagedExamples":
        """The same examples at another stage."""
        return replace(self, tokens_removed=tokens_removed)

    def part(self, index: NDArray[np.int64]) -> "StagedExamples":
        """Only the examples ``index``, counted within ``rows``."""
        return replace(self, rows=self.rows[index])

    @cached_property
    def longest_target(self) -> int:
        """The limit of decoding: the longest correct output of the whole split, or more."""
        longest = int((self._lengths_of_split - self.store.cot_start).max())
        return max(longest, self.max_new_tokens or longest + self.unknown_chain)

    def batch(self, index: NDArray[np.int64]) -> CoTBatch:
        """The examples ``index`` [B], counted within ``rows``."""
        whole = collate(self.store, self.rows[index], self.eos_token_id)
        n_removed = torch.full_like(whole.lengths, self.tokens_removed)
        if self.has_one_separator:
            whole, n_removed = with_second_separator(whole), n_removed + 1
        short = remove_and_fill(whole, n_removed, self.side, self.keep_position_ids, self.filler)
        if self.has_one_separator:  # the first one is where the second would be, too
            short = replace(short, cot_end=short.cot_start - 1)
        return short.columns(int(short.lengths.max()))

    @cached_property
    def prompts_and_targets(self) -> tuple[list[list[int]], list[list[int]]]:
        """Tokens of [n] prompts, each with its separator, and of [n] correct outputs."""
        prompts: list[list[int]] = []
        targets: list[list[int]] = []
        for begin in range(0, len(self), CHUNK):
            batch = self.batch(np.arange(begin, min(begin + CHUNK, len(self))))
            starts, ends = batch.cot_start.tolist(), batch.lengths.tolist()
            for row, start, end in zip(batch.input_ids.tolist(), starts, ends, strict=True):
                prompts.append(row[:start])
                targets.append(row[start:end])
        return prompts, targets

    def batches(
        self, index: NDArray[np.int64], size: int
    ) -> Iterator[tuple[NDArray[np.int64], CoTBatch]]:
        """Batches of ``size`` examples of similar length out of ``index`` [n], with indices."""
        order = index[np.argsort(self.lengths[index], kind="stable")]
        for start in range(0, len(order), size):
            part = order[start : start + size]
            yield part, self.batch(part)
