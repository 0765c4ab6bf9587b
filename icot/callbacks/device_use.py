"""What each device has done in a process's training: examples and tokens a second, peak memory."""

import resource
import sys
import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from icot.callbacks.removal_schedule import datamodule_of


class DeviceUse(Callback):
    """Counts on every device. Put it before every callback that acts at the end of a batch."""

    def __init__(self) -> None:
        self._examples = self._tokens_before = 0
        self._seconds = self._begun = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What an earlier process has trained is not this one's."""
        self._tokens_before = datamodule_of(trainer).tokens
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock."""
        self._begun = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop it, before a validation."""
        self._seconds += time.perf_counter() - self._begun
        self._examples += len(batch.lengths)

    def measured(self, trainer: Trainer) -> list[dict[str, Any]]:
        """By rank, at the end of training; all ranks must ask.

        Seconds are those of training batches, without validation and checkpoints. Memory is what
        torch has allocated on a GPU, and all that the process has had resident on a CPU, in bytes.
        """
        tokens = datamodule_of(trainer).tokens - self._tokens_before
        seconds = max(self._seconds, 1e-9)
        mine = {
            "rank": trainer.global_rank,
            "examples_per_second": round(self._examples / seconds, 3),
            "tokens_per_second": round(tokens / seconds, 3),
            "peak_memory_bytes": _peak(trainer.strategy.root_device),
        }
        if trainer.world_size == 1:
            return [mine]
        every: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(every, mine)
        return every


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    kilobytes = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobytes
