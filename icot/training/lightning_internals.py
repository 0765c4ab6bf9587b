"""Everything of Lightning that is private or undocumented, and nothing else; a test for each.

The versions that these functions are known to fit are pinned in pyproject.toml. A new one has to
pass ``tests/training/test_lightning_internals.py``.
"""

from collections.abc import Callable
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.progress import _ProcessedTracker


class _EndingFitLoop(_FitLoop):
    """Lightning leaves at once where no batch is left to train; the end of training is skipped.

    A run that was killed while its final validation ran would then never get one.
    """

    @property
    def skip(self) -> bool:
        """Never: no batch is trained, but training starts and ends."""
        return False


def end_also_when_resumed_at_the_end(trainer: Trainer) -> None:
    """Let a trainer's ``fit`` reach ``on_train_end`` also where no batch is left."""
    loop = _EndingFitLoop(trainer, trainer.fit_loop.min_epochs, trainer.fit_loop.max_epochs)
    loop.epoch_loop = trainer.fit_loop.epoch_loop
    trainer.fit_loop = loop


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """A trainer's callbacks, in the order in which they are called; the list itself."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def datamodule_in(trainer: Trainer) -> Any:
    """The data module that a trainer fits with, None without one."""
    return trainer.datamodule  # type: ignore[attr-defined]


def training_is_over(trainer: Trainer) -> bool:
    """Whether, at the end of an epoch, no further batch is to be trained."""
    return bool(trainer.fit_loop.done)


def epochs_done(trainer: Trainer) -> int:
    """Epochs whose batches are all trained; their end, with its validation, may not be."""
    progress = trainer.fit_loop.epoch_progress.current
    assert isinstance(progress, _ProcessedTracker)
    return progress.processed


def batches_done_in_epoch(trainer: Trainer) -> int:
    """Batches of the present epoch that are trained."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.completed


def batch_in_flight(trainer: Trainer) -> int:
    """The number, counted from 0, that the batch being trained has in its epoch."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready - 1


def end_after_step(trainer: Trainer, step: int) -> None:
    """Let training end after an optimizer step, unless something ends it earlier."""
    loop = trainer.fit_loop.epoch_loop
    loop.max_steps = step if loop.max_steps < 0 else min(loop.max_steps, step)


def place_loops_between_batches(checkpoint: dict[str, Any], epoch: int, batches: int) -> None:
    """Let the loops in a checkpoint stand between two batches, wherever in their work they are.

    Args:
        checkpoint: what Lightning is about to save; changed in place.
        epoch: epochs done.
        batches: batches done of the next one.
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
    """What ends at once all processes that the trainer has started; None where it starts none."""
    launcher = trainer.strategy.launcher
    return None if launcher is None else lambda: launcher.kill(9)
