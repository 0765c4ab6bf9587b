"""Removal smoothing (arXiv 2405.14838, section 3): a few examples lose some tokens more.

Each row of each training batch removes s + o tokens, o >= 0 with P(o) proportional to
exp(-lambda o); never in evaluation, and not while the schedule is held in a warm-up.
"""

from lightning import Callback, LightningModule, Trainer

from icot.training.callbacks.stages import datamodule_of


class RemovalSmoothing(Callback):
    """Lets the data module draw offsets for training batches.

    Args:
        smoothing_lambda: above 0; the smaller, the more is removed early.
    """

    def __init__(self, smoothing_lambda: float) -> None:
        self.smoothing_lambda = smoothing_lambda

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From the first batch on."""
        datamodule_of(trainer).smoothing_lambda = self.smoothing_lambda
