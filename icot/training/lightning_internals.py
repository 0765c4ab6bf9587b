"""Lightning's loop over epochs, with an end for a run that is resumed at its end."""

from lightning import Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop


class _EndingFitLoop(_FitLoop):
    """Lightning leaves at once where no batch is left to train; the end of training is skipped.

    A run that was killed while its final validation ran would then never get one.
    """

    @property
    def skip(self) -> bool:
        """Never: no batch is trained, but training starts and ends."""
        return False


def also_ends_when_resumed_at_its_end(trainer: Trainer) -> None:
    """Let a trainer's ``fit`` reach ``on_train_end`` also where no batch is left."""
    loop = _EndingFitLoop(trainer, trainer.fit_loop.min_epochs, trainer.fit_loop.max_epochs)
    loop.epoch_loop = trainer.fit_loop.epoch_loop
    trainer.fit_loop = loop
