"""Throughput and memory of each device in this process's training."""

import time
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from icot.system.hardware import peak_memory
from icot.training.callbacks.clock import clock_of
from icot.training.fully_sharded import own_part
from icot.training.hooks import RunCallback


class DeviceUse(RunCallback):
    """Measures every device. Put it before all callbacks that act at the end of a batch."""

    def __init__(self) -> None:
        self._examples = self._tokens_before = 0
        self._seconds = self._begun = 0.0
        self._state_memory = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exclude what an earlier process has trained."""
        self._tokens_before = clock_of(trainer).tokens
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
        """Stop the clock before a validation."""
        self._seconds += time.perf_counter() - self._begun
        if batch.plan is None or batch.plan.tokens:  # else its only row stands for none
            self._examples += len(batch.lengths)
        if self._state_memory == 0 and any(o.state for o in trainer.optimizers):
            self._state_memory = _state_memory(trainer, pl_module)

    def collect(self, trainer: Trainer) -> list[dict[str, Any]]:
        """The figures of all ranks, at the end of training; all ranks must call it.

        Throughput is over the time of training batches, without validation and checkpoints. The
        state's memory is that of weights, gradients and moments on this device; the peak is torch's
        peak allocation on a GPU, or the process's peak resident memory on a CPU. Both in bytes.
        """
        tokens = clock_of(trainer).tokens - self._tokens_before
        seconds = max(self._seconds, 1e-9)
        local = {
            "rank": trainer.global_rank,
            "examples_per_second": round(self._examples / seconds, 3),
            "tokens_per_second": round(tokens / seconds, 3),
            "state_memory_bytes": self._state_memory,
            "peak_memory_bytes": peak_memory(trainer.strategy.root_device),
        }
        if trainer.world_size == 1:
            return [local]
        gathered: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(gathered, local)
        return gathered


def _state_memory(trainer: Trainer, module: LightningModule) -> int:
    weights = list(module.parameters())
    gradients = [p.grad for p in weights if p.grad is not None]
    moments = [
        value
        for optimizer in trainer.optimizers
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]
    parts = [own_part(tensor) for tensor in (*weights, *gradients, *moments)]
    return sum(part.numel() * part.element_size() for part in parts)
