"""Examples and tokens per second, for loggers other than metrics.csv.

metrics.csv must be the same, byte for byte, however often a run was stopped.
"""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from icot.training.callbacks.clock import clock_of
from icot.training.hooks import datamodule_of

EXAMPLES_PER_SECOND = "throughput/examples_per_second"
TOKENS_PER_SECOND = "throughput/tokens_per_second"


class Throughput(Callback):
    """Logs throughput at regular intervals, by wall time including validation.

    Args:
        logger: to log to.
        every: updates between two logs.
    """

    def __init__(self, logger: Logger, every: int = 50) -> None:
        self.logger, self.every = logger, every
        self._since = (0.0, 0, 0)  # time, examples, tokens

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._since = self._now(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log if an interval has passed."""
        if not trainer.is_global_zero or trainer.global_step % self.every:
            return
        then, now = self._since, self._now(trainer)
        seconds = now[0] - then[0]
        if now[1] == then[1] or seconds <= 0:
            return
        # Each device counts its own tokens, which are an equal share of every batch.
        self.logger.log_metrics(
            {
                EXAMPLES_PER_SECOND: (now[1] - then[1]) / seconds,
                TOKENS_PER_SECOND: (now[2] - then[2]) * trainer.world_size / seconds,
            },
            step=trainer.global_step,
        )
        self._since = now

    def _now(self, trainer: Trainer) -> tuple[float, int, int]:
        clock = clock_of(trainer)
        examples = datamodule_of(trainer).examples_seen(clock.batches)
        return time.monotonic(), examples, clock.tokens
