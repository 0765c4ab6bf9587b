"""What each device has done in a process's training: examples and tokens a second, memory."""

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
    """Counts on every device. Put it before every callback that acts at the end of a batch."""

    def __init__(self) -> None:
        self._examples = self._tokens_before = 0
        self._seconds = self._begun = 0.0
        self._state_memory = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What an earlier process has trained is not this one's."""
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
        """Stop it, before a validation."""
        self._seconds += time.perf_counter() - self._begun
        self._examples += len(batch.lengths)
        if self._state_memory == 0 and any(o.state for o in trainer.optimizers):
            self._state_memory = _state_memory(trainer, pl_module)

    def measured(self, trainer: Trainer) -> list[dict[str, Any]]:
        """By rank, at the end of training; all ranks must ask.

        Seconds are those of training batches, without validation and checkpoints. The state's
        memory is that of weights, gradients and moments on this device; the peak is what torch has
        allocated on a GPU, and all that the process has had resident on a CPU. Both in bytes.
        """
        tokens = clock_of(trainer).tokens - self._tokens_before
        seconds = max(self._seconds, 1e-9)
        mine = {
            "rank": trainer.global_rank,
            "examples_per_second": round(self._examples / seconds, 3),
            "tokens_per_second": round(tokens / seconds, 3),
            "state_memory_bytes": self._state_memory,
            "peak_memory_bytes": peak_memory(trainer.strategy.root_device),
        }
        if trainer.world_size == 1:
            return [mine]
        every: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(every, mine)
        return every


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
    held = [own_part(tensor) for tensor in (*weights, *gradients, *moments)]
    return sum(tensor.numel() * tensor.element_size() for tensor in held)
