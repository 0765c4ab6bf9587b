"""Resumable checkpoints: by steps, by time, at the ends of stages, and after signals.

    checkpoints/last.ckpt             the newest
    checkpoints/step-00001200.ckpt    earlier ones
    checkpoints/good.ckpt             the newest with good accuracy, to return to after a collapse

A checkpoint is taken only between two updates: before the first batch of an update, or after the
last batch of an epoch and before its validation. Everything that a batch changes (weights, moments,
stage, metrics rows) is then complete, and nothing of the next batch has begun.
"""

import time
from pathlib import Path
from signal import SIGUSR1
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from icot.errors import RunError
from icot.runs.layout import GOOD_FILE, LAST_FILE, STEP_FILES, step_file
from icot.schedule import Stage
from icot.system.files import link
from icot.system.signals import Interrupted, Signals, requeue_job
from icot.training.hooks import RunCallback, header_parts
from icot.training.lightning_internals import (
    batches_done_in_epoch,
    epochs_done,
    make_rank_killer,
    place_loops_between_batches,
    training_is_over,
)
from icot.training.metrics_file import MetricsFile

AGREE_EVERY = 10  # updates after which the devices agree on time and signals


class Checkpointing(RunCallback):
    """Saves resumable checkpoints. Put it before all callbacks that act at the end of an epoch.

    Args:
        folder: of the files.
        metrics: a checkpoint stores its number of rows.
        signals: signals that ask for a checkpoint and the end of training.
        every_steps: optimizer steps between two checkpoints; None for none.
        every_minutes: minutes between two checkpoints; None for none.
        keep: the number of newest checkpoints to keep.
        requeue: requeue a Slurm job after SIGUSR1.
    """

    state_key = "checkpointing"

    def __init__(
        self,
        folder: Path,
        metrics: MetricsFile,
        signals: Signals,
        every_steps: int | None = None,
        every_minutes: float | None = 10.0,
        keep: int = 2,
        requeue: bool = False,
    ) -> None:
        self.folder, self.metrics, self.signals = folder, metrics, signals
        self.every_steps, self.every_minutes, self.keep = every_steps, every_minutes, keep
        self.requeue = requeue
        self._due = False
        self._saved: dict[str, int] | None = None  # position of the newest checkpoint
        self._saved_at = time.monotonic()
        self._restored_rows = 0
        self._good_stage = -1  # the newest good stage at a save
        self._is_good = False  # whether the newest checkpoint is the first after it
        self._world_size = 1
        self._position: tuple[int, int] | None = None  # epoch and batches, during a save

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note the number of devices."""
        self._world_size = trainer.world_size

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop metrics rows that will be written again, and start recording signals."""
        self.metrics.keep(self._restored_rows)
        self._link_good(trainer)  # the process may have been killed before this
        self._saved_at = time.monotonic()
        self.signals.at_once = make_rank_killer(trainer)
        self.signals.postpone()

    def on_stage_start(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        """Save when the update in which a stage ended is complete."""
        self._due = stage.index > 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save before an update if a checkpoint is due; end training after a signal.

        Raises:
            Interrupted: after a signal, once a checkpoint is saved.
            RunError: the checkpoint cannot be written.
        """
        updates, batches_in_update = divmod(batch_idx, trainer.accumulate_grad_batches)
        if batches_in_update:
            return
        due, signal = self._agree(trainer, updates)
        if due or signal:
            self._save(trainer, epochs_done(trainer), batch_idx)
        if signal:
            self._end(trainer, signal)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if a checkpoint is due, and always at the end of training."""
        due, signal = self._agree(trainer, 0)
        if due or signal or training_is_over(trainer):
            self._save(trainer, epochs_done(trainer) - 1, batches_done_in_epoch(trainer))
        if signal:
            self._end(trainer, signal)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let signals end the process at once: the rest can be repeated from the checkpoint.

        Raises:
            Interrupted: a signal has been recorded.
        """
        self.signals.deliver()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Act on signals at once; after an error of this rank alone, kill the others."""
        self.signals.act_at_once()
        if isinstance(exception, RunError) and self.signals.at_once is not None:
            self.signals.at_once()

    def _end(self, trainer: Trainer, signal: int) -> None:
        self.signals.act_at_once()
        if trainer.is_global_zero:
            again = ""
            if self.requeue and signal == SIGUSR1:
                again = (
                    " Slurm requeued the job." if requeue_job() else " Slurm did not requeue it."
                )
            print(
                f"Saved at step {trainer.global_step}; resume={self.folder.parent} resumes.{again}",
                flush=True,
            )
        raise Interrupted(signal, is_main=trainer.is_global_zero)

    def _agree(self, trainer: Trainer, updates: int) -> tuple[bool, int]:
        """Whether to save, and the signal that ends training (or 0); the same on every device."""
        since = trainer.global_step - (self._saved or {}).get("step", 0)
        due = self._due or (self.every_steps is not None and since >= self.every_steps)
        if self.every_minutes is not None:
            timed = time.monotonic() - self._saved_at >= 60 * self.every_minutes
        else:
            timed = False
        signal = self.signals.received or 0
        if trainer.world_size > 1:
            if updates % AGREE_EVERY:
                return due, 0
            local = torch.tensor([int(timed), signal], device=trainer.strategy.root_device)
            reduced = trainer.strategy.reduce(local, reduce_op="max")
            assert isinstance(reduced, Tensor)
            timed, signal = bool(reduced[0]), int(reduced[1])
        return due or timed, signal

    def _save(self, trainer: Trainer, epoch: int, batches: int) -> None:
        now = {"step": trainer.global_step, "epoch": epoch, "batches": batches}
        if now != self._saved:
            last = self.folder / LAST_FILE
            if trainer.is_global_zero and self._saved is not None and last.is_file():
                link(last, self.folder / step_file(self._saved["step"]))
            self._saved = now
            self._note_good_stage(trainer)
            self._position = (epoch, batches)
            trainer.save_checkpoint(last)
            self._position = None
            self._link_good(trainer)
            if trainer.is_global_zero:
                self._drop_old()
        self._due, self._saved_at = False, time.monotonic()

    def _note_good_stage(self, trainer: Trainer) -> None:
        """Note whether the next checkpoint is one to return to after a collapse."""
        last_good: Stage | None = header_parts(trainer).get("last_good")
        good = -1 if last_good is None else last_good.index
        self._is_good = good > self._good_stage
        self._good_stage = max(good, self._good_stage)

    def _link_good(self, trainer: Trainer) -> None:
        if self._is_good and trainer.is_global_zero:
            link(self.folder / LAST_FILE, self.folder / GOOD_FILE)

    def _drop_old(self) -> None:
        for path in sorted(self.folder.glob(STEP_FILES))[: -(self.keep - 1) or None]:
            path.unlink(missing_ok=True)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Set the loop counters to the position between two batches."""
        if self._position is not None:
            place_loops_between_batches(checkpoint, *self._position)

    def header_part(self, trainer: Trainer) -> dict[str, Any]:
        """The epoch of a checkpoint."""
        return {} if self._position is None else {"epoch": self._position[0]}

    def state_dict(self) -> dict[str, Any]:
        """The checkpoint's position, and the number of devices, which must not change."""
        return {
            "saved": self._saved,
            "metrics_rows": self.metrics.rows,
            "good_stage": self._good_stage,
            "is_good": self._is_good,
            "world_size": self._world_size,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of ``state_dict``.

        Raises:
            RunError: the run was trained on another number of devices.
        """
        if state_dict["world_size"] != self._world_size:
            raise RunError(
                f"this run was trained on {state_dict['world_size']} devices and would resume with "
                f"{self._world_size}, which changes its batches; set trainer.devices and "
                "trainer.num_nodes as before."
            )
        self._saved, self._restored_rows = state_dict["saved"], state_dict["metrics_rows"]
        self._good_stage, self._is_good = state_dict["good_stage"], state_dict["is_good"]
