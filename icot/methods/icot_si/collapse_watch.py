"""The paper's stability problem (arXiv 2405.14838, Figure 4 and limitations), noticed in time.

A removal costs accuracy, which training brings back. Where it does not come back within a number
of validations, the run has collapsed: every later stage starts from a model that has lost the task.
"""

import logging
from typing import Any

from lightning import LightningModule, Trainer

from icot.schedule import Stage
from icot.training.callbacks.stages import StageCallback, find
from icot.training.callbacks.validation_accuracy import ValidationAccuracy

log = logging.getLogger(__name__)


class CollapseError(Exception):
    """Accuracy has not come back; the message says how low it is."""


class CollapseWatch(StageCallback):
    """Watches validation accuracy. Put it behind ``ValidationAccuracy``.

    Args:
        share: accuracy is back when it is at least this share of the run's best.
        validations: how many in a row may be below that.
        stop: end training with ``CollapseError`` rather than only say so.

    Attributes:
        best: the highest accuracy so far.
        below: validations since accuracy was last back.
        good: the newest stage that ended with its accuracy back, None before the first.
    """

    def __init__(self, share: float, validations: int, stop: bool) -> None:
        self.share, self.validations, self.stop = share, validations, stop
        self.best = 0.0
        self.below = 0
        self.good: Stage | None = None
        self._seen = -1  # batches at the newest validation

    def on_stage_end(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        """Judge the stage's validation."""
        self._judge(trainer, stage)
        if self.below == 0:
            self.good = stage

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the epoch's validation."""
        validation = find(trainer, ValidationAccuracy)
        if validation is not None and validation.stage is not None:
            self._judge(trainer, validation.stage)

    def _judge(self, trainer: Trainer, stage: Stage) -> None:
        validation = find(trainer, ValidationAccuracy)
        assert validation is not None
        if validation.stage is None or validation.stage.batches == self._seen:
            return
        self._seen = validation.stage.batches
        accuracy = validation.latest.accuracy
        self.best = max(self.best, accuracy)
        self.below = 0 if accuracy >= self.share * self.best else self.below + 1
        if self.below < self.validations:
            return
        where = "" if self.good is None else f" since {self.good.tokens_removed} were removed"
        message = (
            f"collapse: accuracy {accuracy:.3f} with {stage.tokens_removed} tokens removed, below "
            f"{self.share:g} of the best {self.best:.3f} for {self.below} validations{where}"
        )
        if self.stop:
            raise CollapseError(message)
        if self.below == self.validations and trainer.is_global_zero:  # once, not ever again
            log.warning(message)

    def state_dict(self) -> dict[str, Any]:
        """What has been seen."""
        return {
            "best": self.best,
            "below": self.below,
            "good": None if self.good is None else self.good.state_dict(),
            "seen": self._seen,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.best, self.below, self._seen = (state_dict[k] for k in ("best", "below", "seen"))
        good = state_dict["good"]
        self.good = None if good is None else Stage.from_state_dict(good)
