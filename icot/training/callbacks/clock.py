"""The run's clock: it counts batches, tokens and dropped examples.

Everything that depends on a batch's number uses it: smoothing offsets, skipped batches, the number
of examples seen, and dropout. Torch's generators are seeded for every batch by (seed, batch, rank),
so that a checkpoint needs no generator state, and a resumed run draws the same random numbers as
the uninterrupted one.
"""

from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer

from icot.removal import CoTBatch
from icot.training.hooks import RunCallback, datamodule_of, find


class Clock(RunCallback):
    """Counts batches. Put it before every callback that reads it.

    Args:
        seed: of the run.

    Attributes:
        batches: batches of the run so far, including skipped ones.
        tokens: tokens trained on so far on this device, without padding.
        dropped: training examples dropped so far on this device because they are too long.
    """

    state_key = "clock"

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.batches = self.tokens = self.dropped = 0
        self._trainer: Trainer | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the trainer, to sum counts over devices."""
        self._trainer = trainer

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the data module the number of the next batch."""
        datamodule_of(trainer).batches = self.batches

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed torch for this batch."""
        position = (self.seed, self.batches, trainer.global_rank)
        seed = int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0])
        torch.default_generator.manual_seed(seed)
        if pl_module.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: CoTBatch,
        batch_idx: int,
    ) -> None:
        """Count the batch."""
        self.batches += 1
        if batch.plan is not None:
            self.tokens += batch.plan.tokens
            self.dropped += batch.plan.dropped
        datamodule_of(trainer).batches = self.batches

    def on_all_devices(self, count: int) -> int:
        """The sum of a count over all devices; all ranks must call it."""
        if self._trainer is None or self._trainer.world_size == 1:
            return count
        counted = torch.tensor(count, device=self._trainer.strategy.root_device)
        return int(self._trainer.strategy.reduce(counted, reduce_op="sum"))

    def header_part(self, trainer: Trainer) -> dict[str, Any]:
        """The number of the next batch."""
        return {"batches": self.batches}

    def state_dict(self) -> dict[str, Any]:
        """The counts, over all devices."""
        return {
            "batches": self.batches,
            "tokens": self.on_all_devices(self.tokens),
            "dropped": self.on_all_devices(self.dropped),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of ``state_dict``; rank zero takes the counts of all devices."""
        is_rank_zero = self._trainer is None or self._trainer.is_global_zero
        self.batches = state_dict["batches"]
        self.tokens = state_dict["tokens"] if is_rank_zero else 0
        self.dropped = state_dict["dropped"] if is_rank_zero else 0


def clock_of(trainer: Trainer) -> Clock:
    """The clock of a run; every run has one."""
    clock = find(trainer, Clock)
    assert clock is not None
    return clock
