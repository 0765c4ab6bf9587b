"""All uses of private or undocumented Lightning features, each with a test.

pyproject.toml pins the versions that they work with. A new version must pass
``tests/training/test_lightning_internals.py``.
"""

from collections.abc import Callable
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.progress import _ProcessedTracker


class _EndingFitLoop(_FitLoop):
    """Runs the end of training even if no batch is left, which Lightning's loop skips.

    Otherwise a run that was killed during its final validation would never complete it.
    """

    @property
    def skip(self) -> bool:
        """Never: even without a batch, training starts and ends."""
        return False


def end_also_when_resumed_at_the_end(trainer: Trainer) -> None:
    """Let a trainer's ``fit`` reach ``on_train_end`` even if no batch is left."""
    loop = _EndingFitLoop(trainer, trainer.fit_loop.min_epochs, trainer.fit_loop.max_epochs)
    loop.epoch_loop = trainer.fit_loop.epoch_loop
    trainer.fit_loop = loop


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """The trainer's own list of callbacks, in the order in which they are called."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def datamodule_in(trainer: Trainer) -> Any:
    """The trainer's data module, None without one."""
    return trainer.datamodule  # type: ignore[attr-defined]


def training_is_over(trainer: Trainer) -> bool:
    """Whether training ends with the epoch that is ending."""
    return bool(trainer.fit_loop.done)


def epochs_done(trainer: Trainer) -> int:
    """Epochs whose batches are all trained; the last one's validation may be pending."""
    progress = trainer.fit_loop.epoch_progress.current
    assert isinstance(progress, _ProcessedTracker)
    return progress.processed


def batches_done_in_epoch(trainer: Trainer) -> int:
    """Trained batches of the current epoch."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.completed


def batch_in_flight(trainer: Trainer) -> int:
    """The index in its epoch of the batch that is being trained."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready - 1


def end_after_step(trainer: Trainer, step: int) -> None:
    """End training after an optimizer step, unless it ends earlier."""
    loop = trainer.fit_loop.epoch_loop
    loop.max_steps = step if loop.max_steps < 0 else min(loop.max_steps, step)


def place_loops_between_batches(checkpoint: dict[str, Any], epoch: int, batches: int) -> None:
    """Set the loop counters in a checkpoint to a position between two batches.

    Args:
        checkpoint: what Lightning is about to save; changed in place.
        epoch: epochs done.
        batches: batches done in the next epoch.
    """
    begun = {"ready": epoch + 1, "started": epoch + 1, "processed": epoch, "completed": epoch}
    loop = checkpoint["loops"]["fit_loop"]
    loop["epoch_progress"] = {"total": dict(begun), "current": dict(begun)}
    total = loop["epoch_loop.batch_progress"]["total"]
    loop["epoch_loop.batch_progress"] = {
        "total": dict.fromkeys(total, total["completed"]),
        "current": dict.fromkeys(total, batches),
        "is_last_batch": False,
    }
    checkpoint["epoch"] = epoch


def make_rank_killer(trainer: Trainer) -> Callable[[], None] | None:
    """A function that kills all processes that the trainer has started; None if it starts none."""
    launcher = trainer.strategy.launcher
    return None if launcher is None else lambda: launcher.kill(9)
