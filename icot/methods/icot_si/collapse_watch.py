"""Detects a collapse, the paper's stability problem (arXiv 2405.14838, Figure 4, limitations).

A removal lowers accuracy, and training restores it. If it is not restored within a number of
validations, the run has collapsed: all later stages start from a model that has lost the task.
"""

import logging
from typing import Any

from lightning import LightningModule, Trainer

from icot.schedule import Stage
from icot.training.hooks import RunCallback, Validated
from icot.training.rollback import CollapseError

log = logging.getLogger(__name__)


class CollapseWatch(RunCallback):
    """Watches validation accuracy. Put it after ``RunRecord``, which writes the stage's row.

    Args:
        share: accuracy is restored when it is at least this share of the run's best.
        validations: the number of validations in a row below that share that make a collapse.
        stop: end training with ``CollapseError``; else only log a warning.

    Attributes:
        best: the highest accuracy so far.
        below: validations since accuracy was last restored.
        good: the newest stage that ended with its accuracy restored; None if there is none.
    """

    state_key = "collapse_watch"

    def __init__(self, share: float, validations: int, stop: bool) -> None:
        self.share, self.validations, self.stop = share, validations, stop
        self.best = 0.0
        self.below = 0
        self.good: Stage | None = None
        self._seen = -1  # batches at the newest validation
        self._message: str | None = None  # of a collapse that has not been reported yet

    def on_validated(self, trainer: Trainer, module: LightningModule, validated: Validated) -> None:
        """Judge the validation; the run acts on it once the stage's row is written."""
        if validated.batches == self._seen:
            return
        self._seen = validated.batches
        accuracy = validated.accuracy
        self.best = max(self.best, accuracy)
        self.below = 0 if accuracy >= self.share * self.best else self.below + 1
        if self.below < self.validations:
            return
        where = "" if self.good is None else f" since {self.good.tokens_removed} were removed"
        self._message = (
            f"collapse: accuracy {accuracy:.3f} with {validated.stage.tokens_removed} tokens "
            f"removed, below {self.share:g} of the best {self.best:.3f} for {self.below} "
            f"validations{where}"
        )

    def on_stage_end(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        """Act on the stage's validation.

        Raises:
            CollapseError: accuracy has not been restored for too long.
        """
        self._act(trainer)
        if self.below == 0:
            self.good = stage

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Act on the epoch's validation.

        Raises:
            CollapseError: accuracy has not been restored for too long.
        """
        self._act(trainer)

    def _act(self, trainer: Trainer) -> None:
        message, self._message = self._message, None
        if message is None:
            return
        if self.stop:
            raise CollapseError(message)
        if self.below == self.validations and trainer.is_global_zero:  # only once
            log.warning(message)

    def header_part(self, trainer: Trainer) -> dict[str, Any]:
        """The stage to return to after a collapse; None if the run does not return."""
        return {"last_good": self.good if self.stop else None}

    def state_dict(self) -> dict[str, Any]:
        """The best accuracy, the count of validations below the share, and the last good stage."""
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
