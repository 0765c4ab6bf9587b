"""The progress display: a live line in a terminal, a plain line at intervals elsewhere.

epoch 0 | step 840/6,000 | stage 2: 12 of 24 tokens removed | loss 0.0423 | 0:03:05 left
"""

import time
from math import isnan, nan
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.live import Live
from rich.text import Text

from icot.training.callbacks.stages import Stages
from icot.training.hooks import RunCallback, Validated, datamodule_of, find
from icot.training.module import LOSS


class Progress(ProgressBar, RunCallback):
    """Shows the progress of training.

    Args:
        seconds: between two lines outside a terminal; a terminal is updated four times a second.
    """

    def __init__(self, seconds: float = 15.0) -> None:
        super().__init__()
        self.seconds = seconds
        self._console = Console()
        self._live: Live | None = None
        self._shown = self._begun = 0.0
        self._step_at_start = 0
        self._newest: Validated | None = None

    def disable(self) -> None:
        """Lightning calls this on every rank except zero."""
        self._enabled = False

    def enable(self) -> None:
        """Turn the display on."""
        self._enabled = True

    _enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the display."""
        self._begun, self._step_at_start = time.monotonic(), trainer.global_step
        if self._enabled and self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4)
            self._live.start()

    def on_validated(self, trainer: Trainer, module: LightningModule, validated: Validated) -> None:
        """Show the accuracy from now on."""
        self._newest = validated

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the line if it is due."""
        now = time.monotonic()
        if self._enabled and now - self._shown >= (0.25 if self._live else self.seconds):
            self._shown = now
            self._show(self.line(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the display with its last line."""
        if self._enabled:
            self._show(self.line(trainer))
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the display."""
        self._close()

    def line(self, trainer: Trainer) -> str:
        """The present line."""
        parts = [f"epoch {trainer.current_epoch}", _steps(trainer)]
        stages = find(trainer, Stages)
        if stages is not None and stages.stage is not None:
            stage, longest = stages.stage, datamodule_of(trainer).longest_cot
            parts.append(f"stage {stage.index}: {stage.tokens_removed} of {longest} tokens removed")
        loss = float(torch.as_tensor(trainer.callback_metrics.get(LOSS, nan)))
        if not isnan(loss):  # as of a batch whose examples are all too long
            parts.append(f"loss {loss:.4f}")
        if self._newest is not None:
            result = self._newest.result
            low, high = result.interval
            parts.append(f"accuracy {result.accuracy:.3f} ({low:.3f}-{high:.3f})")
        left = self._seconds_left(trainer)
        if left is not None:
            parts.append(f"{int(left) // 3600}:{int(left) // 60 % 60:02}:{int(left) % 60:02} left")
        return " | ".join(parts)

    def _seconds_left(self, trainer: Trainer) -> float | None:
        total, done = _total_steps(trainer), trainer.global_step
        trained = done - self._step_at_start
        if total is None or trained == 0:
            return None
        return (time.monotonic() - self._begun) / trained * max(0, total - done)

    def _show(self, line: str) -> None:
        if self._live is not None:
            self._live.update(Text(line))
        else:
            self._console.print(line, highlight=False, soft_wrap=True)

    def _close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _total_steps(trainer: Trainer) -> int | None:
    """Optimizer steps of the whole run, if it has a limit."""
    limits = []
    if trainer.max_steps > 0:
        limits.append(trainer.max_steps)
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        batches = int(trainer.num_training_batches)
        limits.append(trainer.max_epochs * -(-batches // trainer.accumulate_grad_batches))
    return min(limits, default=None)


def _steps(trainer: Trainer) -> str:
    total = _total_steps(trainer)
    return f"step {trainer.global_step:,}" + ("" if total is None else f"/{total:,}")
