"""A callback that kills its own process at a named moment, once."""

import os
import signal
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer

from icot.runs import checkpoint_file
from icot.schedule import Stage
from icot.training.callbacks import validation_accuracy
from icot.training.hooks import RunCallback, datamodule_of
from icot.training.lightning_internals import callbacks_of
from icot.training.metrics_file import MetricsFile

EPOCH = 1  # in which what happens in every epoch is struck
MOMENTS = (
    "mid-epoch",
    "last batch of an epoch",
    "end of an epoch",
    "end of a stage",
    "start of a stage",
    "during validation",
    "during a checkpoint write",
    "after a checkpoint write",
    "during a metrics write",
    "just before full removal",
    "just after full removal",
    "end of training",
)


class KillAt(RunCallback):
    """Kills the process with SIGKILL.

    Args:
        moment: one of ``MOMENTS``.
        marker: a file that says that it has been done; then nothing happens.
        rank: of the process that is killed.
    """

    def __init__(self, moment: str, marker: str, rank: int = 0) -> None:
        assert moment in MOMENTS
        self.moment, self.marker, self.rank = moment, Path(marker), rank
        self.seen = 0

    def _strike(self, trainer: Trainer) -> None:
        if trainer.global_rank == self.rank and not self.marker.exists():
            self.marker.write_text(self.moment)
            os.kill(os.getpid(), signal.SIGKILL)

    def _nth(self, n: int) -> bool:
        self.seen += 1
        return self.seen == n

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.marker.exists():
            return
        # A user's callback is called behind all others; these moments are before them.
        callbacks = callbacks_of(trainer)
        callbacks.insert(0, callbacks.pop(callbacks.index(self)))
        if self.moment == "during validation":
            evaluate = validation_accuracy.evaluate

            def interrupted(*args: Any, **kwargs: Any) -> Any:
                result = evaluate(*args, **kwargs)
                if self._nth(4):
                    self._strike(trainer)  # before anybody has learned the result
                return result

            validation_accuracy.evaluate = interrupted
        elif self.moment == "during a checkpoint write":
            write = checkpoint_file._Sealed.write

            def half_written(sealed: Any, data: Any) -> int:
                if self._nth(400):
                    self._strike(trainer)
                return write(sealed, data)

            checkpoint_file._Sealed.write = half_written  # type: ignore[method-assign]
        elif self.moment == "after a checkpoint write":
            save = checkpoint_file.save

            def saved(*args: Any) -> None:
                save(*args)
                if self._nth(7):
                    self._strike(trainer)

            checkpoint_file.save = saved
        elif self.moment == "during a metrics write":
            log = MetricsFile.log_metrics

            def torn(file: MetricsFile, metrics: Any, step: int | None = None) -> None:
                if self._nth(20):
                    with file.path.open("a") as half:
                        half.write("19,1,0.3")
                    self._strike(trainer)
                log(file, metrics, step)

            MetricsFile.log_metrics = torn  # type: ignore[method-assign]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.current_epoch != EPOCH:
            return
        last = batch_idx == trainer.num_training_batches - 1
        if self.moment == "mid-epoch" and batch_idx == 7:
            self._strike(trainer)
        if self.moment == "last batch of an epoch" and last:
            self._strike(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.moment == "end of an epoch" and self._nth(2):
            self._strike(trainer)

    def on_stage_end(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        if self.moment == "end of a stage" and stage.index == 2:
            self._strike(trainer)
        longest = datamodule_of(trainer).longest_cot
        if self.moment == "just before full removal" and stage.tokens_removed == longest - 1:
            self._strike(trainer)

    def on_stage_start(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        if self.moment == "start of a stage" and stage.index == 3:
            self._strike(trainer)
        if stage.tokens_removed >= datamodule_of(trainer).longest_cot:
            self.full = True

    full = False

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.moment == "just after full removal" and self.full:
            self._strike(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.moment == "end of training":
            self._strike(trainer)
