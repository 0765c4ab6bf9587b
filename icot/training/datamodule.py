"""Batches for Lightning: stored whole, and shortened for the stage at the last moment.

The schedule's callback sets ``stage`` for the next batch; Lightning transfers that batch only
then, so the removal takes effect at exactly that batch, with workers and prefetching too.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.loops.progress import _ProcessedTracker
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase

from icot.data.batches import padded_batch
from icot.data.packing import Layout, layout, pack
from icot.data.sampler import BatchSampler
from icot.data.staged import StagedExamples
from icot.data.tokenized import TokenizedSplit, separator_id, tokenize_split
from icot.errors import DataError, RunError
from icot.removal import IGNORED, CoTBatch, Side, draw_offsets, remove_cot
from icot.schedule import Stage
from icot.tasks.base import Split, Task

log = logging.getLogger(__name__)


class CoTDataModule(LightningDataModule):
    """A task's batches for one tokenizer.

    Args:
        task: where examples come from and how answers are judged.
        tokenizer: its end-of-sequence token separates question, chain and answer.
        cache_dir: where token stores are kept.
        batch_size: training examples per device and micro-batch.
        seed: decides every epoch's order and every smoothing offset.
        side: the end of the chain that is removed.
        keep_position_ids: what follows the removed tokens keeps its position ids.
        max_train_tokens: examples longer than this after removal are dropped from their batch.
        num_workers: processes that collate; 0 collates in the training process.
        packing: put several examples into a row.
        width_multiple: batches are padded to a multiple of so many columns, where that is no more
            than their whole examples have.

    Attributes:
        stage: the schedule's stage for the next training batch.
        smoothing_lambda: offsets are drawn with it, but not in a warm-up; None draws none.
        skipped: batches of the run, counted from 0, that are not trained on.
        dropped: training examples dropped so far for being too long, on this device.
        tokens: trained on so far, on this device; padding is not counted.
    """

    def __init__(
        self,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        cache_dir: str | Path,
        batch_size: int = 32,
        seed: int = 0,
        side: Side = "left",
        keep_position_ids: bool = False,
        max_train_tokens: int | None = None,
        num_workers: int = 0,
        packing: bool = False,
        width_multiple: int = 1,
    ) -> None:
        super().__init__()
        self.task, self.tokenizer, self.cache_dir = task, tokenizer, Path(cache_dir)
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        self.side, self.keep_position_ids = side, keep_position_ids
        self.max_train_tokens, self.packing = max_train_tokens, packing
        self.width_multiple = width_multiple
        self.stage = Stage()
        self.skipped: frozenset[int] = frozenset()
        self.smoothing_lambda: float | None = None
        self.dropped = self.tokens = 0
        self._dropped_now = self._tokens_now = 0  # of the batch in flight
        self._splits: dict[Split, TokenizedSplit] = {}
        self._width = 0
        self._layout: Layout | None = None

    def prepare_data(self) -> None:
        """Build the stores, in one process."""
        for split in ("train", "valid"):
            self.split(split)

    def split(self, name: Split) -> TokenizedSplit:
        """The token store of a split, built if the cache does not hold it.

        Raises:
            DataError: the split has no example.
        """
        if name not in self._splits:
            store = tokenize_split(self.task, name, self.tokenizer, self.cache_dir)
            if len(store) == 0:
                raise DataError(f"task {self.task.name} has no example in its {name} split.")
            if skipped := store.index["skipped_lines"]:
                log.warning("task %s, %s: %d bad lines left out.", self.task.name, name, skipped)
            self._splits[name] = store
        return self._splits[name]

    @property
    def longest(self) -> int:
        """Tokens of the longest example that is trained or validated on."""
        return max(self.split("train").longest, self.split("valid").longest)

    @property
    def longest_cot(self) -> int:
        """Tokens of the longest chain; a stage that removes as many has removed everything."""
        return max(self.split("train").longest_cot, self.split("valid").longest_cot)

    def examples_seen(self, batches: int) -> int:
        """Training examples in the first ``batches`` batches of the run, over all devices."""
        sampler = self.sampler()
        epochs, rest = divmod(batches, len(sampler))
        in_epoch = min(rest * sampler.global_batch_size, sampler.examples)
        return epochs * sampler.examples + in_epoch

    def question(self, number: int) -> str:
        """The question of a training example."""
        store = self.split("train")
        first = int(store.offsets[number])
        tokens = store.tokens[first : first + int(store.cot_start[number]) - 1]
        return str(self.tokenizer.decode(tokens.tolist())).strip()

    def effective_batch_size(self, trainer: Trainer) -> int:
        """Training examples in one update, over all devices and micro-batches."""
        return self.batch_size * trainer.world_size * trainer.accumulate_grad_batches

    @property
    def eos_token_id(self) -> int:
        """The separator."""
        return separator_id(self.tokenizer)

    def sampler(self) -> BatchSampler:
        """This rank's batches."""
        rank, world_size = (
            (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        )
        return BatchSampler(len(self.split("train")), self.batch_size, self.seed, rank, world_size)

    def train_dataloader(self) -> DataLoader[CoTBatch]:
        """Whole training batches in the sampler's order, from where the trainer stands."""
        sampler = self.sampler()
        if self.trainer is not None:
            sampler.set_epoch(epochs_done(self.trainer))
            sampler.cursor = self.trainer.fit_loop.epoch_loop.batch_progress.current.completed
        return DataLoader(
            _Batches(self.split("train"), self.eos_token_id),
            sampler=sampler,
            batch_size=None,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def on_before_batch_transfer(self, batch: CoTBatch, dataloader_idx: int) -> CoTBatch:
        """On the host: this batch's offsets, and the rows and columns that the stage leaves."""
        assert self.trainer is not None
        rows = torch.arange(len(batch.lengths))
        offsets = torch.zeros_like(batch.lengths)
        if self.smoothing_lambda is not None and not self.stage.warming_up:
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
            first = self.stage.batches * self.batch_size * world_size
            offsets = draw_offsets(
                self.smoothing_lambda, self.seed, first + rank + world_size * rows
            )
        batch = replace(batch, offsets=offsets, skipped=self.stage.batches in self.skipped)
        left = batch.lengths - torch.minimum(
            self.stage.tokens_removed + offsets, batch.cot_end - batch.cot_start
        )
        self._dropped_now = 0
        if self.max_train_tokens is not None and int(left.max()) > self.max_train_tokens:
            fits = left <= self.max_train_tokens
            self._dropped_now = int((~fits).sum())
            if fits.any():
                batch, left = batch.rows(fits), left[fits]
            else:  # a batch must have a row; this one supervises nothing
                batch, left = batch.rows(rows[:1]), left[:1]
                batch = replace(batch, labels=torch.full_like(batch.labels, IGNORED))
        self._width = -(-int(left.max()) // self.width_multiple) * self.width_multiple
        self._layout = layout(left, batch.input_ids.shape[1]) if self.packing else None
        self._tokens_now = 0 if batch.skipped else int(left.sum())
        return replace(batch, places=supervised_places(batch, left, self._layout))

    def batch_ended(self, stage: Stage) -> None:
        """A batch has been trained; the next one is of ``stage``."""
        self.dropped += self._dropped_now
        self.tokens += self._tokens_now
        self._dropped_now = self._tokens_now = 0
        self.stage = stage

    def on_after_batch_transfer(self, batch: CoTBatch, dataloader_idx: int) -> CoTBatch:
        """On the device: the removal, and the packing."""
        assert batch.offsets is not None
        n_removed = self.stage.tokens_removed + batch.offsets
        short = remove_cot(batch, n_removed, self.side, self.keep_position_ids)
        if self._layout is not None:
            return pack(short, self._layout, self.eos_token_id)
        return short.columns(self._width)

    def held_out(
        self,
        split: Split,
        tokens_removed: int,
        examples: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> StagedExamples:
        """A split at a stage without offsets: this rank's share of its first ``examples``."""
        store = self.split(split)
        rows = np.arange(len(store))[:examples][rank::world_size]
        return StagedExamples(
            store, rows, tokens_removed, self.eos_token_id, self.side, self.keep_position_ids
        )

    def state_dict(self) -> dict[str, Any]:
        """Examples dropped and tokens trained on all devices, what the data are, and the stage.

        The stage is for whoever evaluates these weights; it belongs to the schedule's callback,
        which restores it.
        """
        return {
            "dropped": self._on_all_devices(self.dropped),
            "tokens": self._on_all_devices(self.tokens),
            "stage": self.stage.state_dict(),
            "data": {"train": self.split("train").identity, "valid": self.split("valid").identity},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of ``state_dict``.

        Raises:
            RunError: the data are not those of the checkpoint.
        """
        for name, identity in state_dict["data"].items():
            if self.split(name).identity != identity:
                raise RunError(
                    f"the {name} split of task {self.task.name} is not what this run was trained "
                    "on: its text or the tokenizer has changed since. Bring back the former, or "
                    "start a new run."
                )
        first = self.trainer is None or self.trainer.is_global_zero
        self.dropped = state_dict["dropped"] if first else 0
        self.tokens = state_dict.get("tokens", 0) if first else 0

    def dropped_on_all_devices(self) -> int:
        """Training examples dropped so far for being too long; all ranks must ask."""
        return self._on_all_devices(self.dropped)

    def tokens_on_all_devices(self) -> int:
        """Tokens trained on, the batch in flight with them; all ranks must ask."""
        return self._on_all_devices(self.tokens + self._tokens_now)

    def _on_all_devices(self, count: int) -> int:
        if self.trainer is None or self.trainer.world_size == 1:
            return count
        counted = torch.tensor(count, device=self.trainer.strategy.root_device)
        return int(self.trainer.strategy.reduce(counted, reduce_op="sum"))


def epochs_done(trainer: Trainer) -> int:
    """Epochs whose batches are all trained; their end, with its validation, may not be."""
    progress = trainer.fit_loop.epoch_progress.current
    assert isinstance(progress, _ProcessedTracker)
    return progress.processed


def supervised_places(batch: CoTBatch, left: Tensor, plan: Layout | None) -> Tensor:
    """Where the supervised tokens [N, 2] of a batch will stand with ``left`` [B] tokens a row."""
    counts = (left - batch.cot_start) * (batch.labels != IGNORED).any(1)
    example = torch.repeat_interleave(counts)
    position = torch.arange(len(example)) - (counts.cumsum(0) - counts - batch.cot_start)[example]
    if plan is None:
        return torch.stack([example, position], dim=1)
    return torch.stack([plan.row[example], plan.column[example] + position], dim=1)


class _Batches(Dataset[CoTBatch]):
    """Maps an array of row numbers to their whole batch."""

    def __init__(self, store: TokenizedSplit, pad_token_id: int) -> None:
        self.store, self.pad_token_id = store, pad_token_id

    def __getitem__(self, rows: Any) -> CoTBatch:
        return padded_batch(self.store, rows, self.pad_token_id)
