"""The data module: batches of whole examples, which a view shortens just before training.

Callbacks set ``stage`` and ``batches`` for the next batch. Lightning transfers that batch only
afterwards, so both apply to exactly that batch, even with workers and prefetching.
"""

import logging
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule, Trainer
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase

from icot.data.batches import collate
from icot.data.leading_tokens import leading_tokens
from icot.data.sampler import BatchSampler
from icot.data.staged import StagedExamples, unknown_chain
from icot.data.tokenized import (
    TokenizedSplit,
    question_boundaries,
    separator_id,
    tokenize_split,
)
from icot.data.views import View
from icot.errors import DataError, RunError
from icot.removal import CoTBatch
from icot.schedule import Stage
from icot.tasks.base import Split, Task
from icot.training.lightning_internals import batches_done_in_epoch, epochs_done

log = logging.getLogger(__name__)


class CoTDataModule(LightningDataModule):
    """A task's batches for one tokenizer.

    Args:
        task: the source of examples; judges answers.
        tokenizer: its end-of-sequence token separates question, chain and answer.
        cache_dir: the folder of token stores.
        view: the method's view of a batch.
        batch_size: training examples per device and micro-batch.
        seed: of every epoch's order.
        num_workers: processes that collate; 0 collates in the training process.

    Attributes:
        stage: the stage of the next training batch, set by ``Stages``.
        batches: batches of the run before the next one, set by ``Clock``.
        skipped: batches of the run to skip, counted from 0.
    """

    def __init__(
        self,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        cache_dir: str | Path,
        view: View,
        batch_size: int = 32,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.task, self.tokenizer, self.cache_dir = task, tokenizer, Path(cache_dir)
        self.view, self.batch_size, self.seed = view, batch_size, seed
        self.num_workers = num_workers
        self.stage = Stage()
        self.batches = 0
        self.skipped: frozenset[int] = frozenset()
        self._splits: dict[Split, TokenizedSplit] = {}

    def prepare_data(self) -> None:
        """Build the token stores, in one process."""
        for split in ("train", "valid"):
            self.split(split)

    def split(self, name: Split) -> TokenizedSplit:
        """The token store of a split, from the cache or built now.

        Raises:
            DataError: the split has no example.
        """
        if name not in self._splits:
            store = tokenize_split(self.task, name, self.tokenizer, self.cache_dir)
            if len(store) == 0:
                raise DataError(f"task {self.task.name} has no example in its {name} split.")
            if skipped := store.index["skipped_lines"]:
                log.warning("task %s, %s: skipped %d bad lines.", self.task.name, name, skipped)
            for note in store.index.get("notes", ()):  # stores of before have none
                log.info("%s", note)
            self._splits[name] = store
        return self._splits[name]

    @property
    def longest(self) -> int:
        """Tokens of the longest training or validation example, with its fillers."""
        longest = max(self.split("train").longest, self.split("valid").longest)
        return longest + self.view.filler.beyond_whole

    @property
    def longest_cot(self) -> int:
        """Tokens of the longest chain; a stage that removes this many removes everything."""
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
        start = int(store.offsets[number])
        end = start + int(store.cot_start[number]) - 1  # the separator
        tokens = store.tokens[start + len(leading_tokens(self.tokenizer)) : end]
        return str(self.tokenizer.decode(tokens.tolist())).strip()

    def effective_batch_size(self, trainer: Trainer) -> int:
        """Training examples in one update, over all devices and micro-batches."""
        return self.batch_size * trainer.world_size * trainer.accumulate_grad_batches

    @property
    def eos_token_id(self) -> int:
        """The separator."""
        return separator_id(self.tokenizer)

    def sampler(self) -> BatchSampler:
        """The sampler of this rank's batches."""
        rank, world_size = (
            (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        )
        return BatchSampler(
            len(self.split("train")),
            self.batch_size,
            self.seed,
            rank,
            world_size,
            self._groups,
            self.task.phases(),
        )

    @cached_property
    def _groups(self) -> NDArray[np.int64] | None:
        """The training examples of each question, where an epoch shows one of them."""
        return question_boundaries(self.split("train")) if self.task.one_per_question else None

    def train_dataloader(self) -> DataLoader[CoTBatch]:
        """Training batches of whole examples, from the trainer's current position on."""
        sampler = self.sampler()
        if self.trainer is not None:
            sampler.set_epoch(epochs_done(self.trainer))
            sampler.cursor = batches_done_in_epoch(self.trainer)
        return DataLoader(
            _Batches(self.split("train"), self.eos_token_id),
            sampler=sampler,
            batch_size=None,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self._on_gpu,
        )

    @property
    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def on_before_batch_transfer(self, batch: CoTBatch, dataloader_idx: int) -> CoTBatch:
        """On the host: add the view's plan, and mark skipped batches."""
        assert self.trainer is not None
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        begin = self.batches * self.batch_size * world_size
        positions = begin + rank + world_size * torch.arange(len(batch.lengths))
        batch = self.view.plan(batch, self.stage, positions)
        if self.batches in self.skipped and batch.plan is not None:
            batch = replace(batch, plan=replace(batch.plan, skipped=True, tokens=0))
        return batch

    def transfer_batch_to_device(
        self, batch: CoTBatch, device: torch.device, dataloader_idx: int
    ) -> CoTBatch:
        """Copy to a GPU asynchronously, for which all memory is pinned, the plan's too."""
        on_gpu = device.type == "cuda"
        return (batch.pin_memory() if on_gpu else batch).to(device, non_blocking=on_gpu)

    def on_after_batch_transfer(self, batch: CoTBatch, dataloader_idx: int) -> CoTBatch:
        """On the device: apply the view."""
        return self.view.apply(batch)

    def held_out(
        self,
        split: Split,
        tokens_removed: int,
        examples: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> StagedExamples:
        """This rank's share of the first ``examples`` of a split at a stage, without offsets."""
        store = self.split(split)
        rows = np.arange(len(store))[:examples][rank::world_size]
        return StagedExamples(
            store,
            rows,
            tokens_removed,
            self.eos_token_id,
            self.view.side,
            self.view.keep_position_ids,
            separators=self.view.separators,
            filler=self.view.filler,
            unknown_chain=unknown_chain(store, self.longest_cot - tokens_removed),
        )

    def state_dict(self) -> dict[str, Any]:
        """The identity of the data."""
        return {
            "data": {"train": self.split("train").identity, "valid": self.split("valid").identity}
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that the data equal those of a checkpoint.

        Raises:
            RunError: they differ.
        """
        for name, identity in state_dict["data"].items():
            if self.split(name).identity != identity:
                raise RunError(
                    f"the {name} split of task {self.task.name} differs from the one that this run "
                    "was trained on: its text or the tokenizer has changed. Restore it, or start a "
                    "new run."
                )


class _Batches(Dataset[CoTBatch]):
    """Maps an array of row numbers to a batch of whole examples."""

    def __init__(self, store: TokenizedSplit, pad_token_id: int) -> None:
        self.store, self.pad_token_id = store, pad_token_id

    def __getitem__(self, rows: Any) -> CoTBatch:
        return collate(self.store, rows, self.pad_token_id)
