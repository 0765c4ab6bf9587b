"""Hooks of a run's callbacks in addition to Lightning's, and their part of a checkpoint's header.

    on_validated(trainer, module, validated)   the validation split has been scored
    on_stage_end(trainer, module, stage)       after the last batch of a stage, before any change
    on_stage_start(trainer, module, stage)     before the first batch of a stage
    on_schedule_end(trainer, module, stage)    the schedule has nothing left to wait for

They are called in the order of the callbacks.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

from lightning import Callback, LightningModule, Trainer

from icot.evaluation.scoring import Evaluation
from icot.schedule import Stage
from icot.training.datamodule import CoTDataModule
from icot.training.lightning_internals import callbacks_of, datamodule_in


@dataclass(frozen=True)
class Validated:
    """A score of the validation split.

    Attributes:
        result: the score.
        stage: at which the model was trained and scored.
        batches: batches of the run so far; two scores with the same number are of the same weights.
        complete: whether the whole split was scored.
        accuracy: exact match on the examples that every validation of the run scores, the first
            ``validation.examples``; validations are compared by this.
    """

    result: Evaluation
    stage: Stage
    batches: int
    complete: bool
    accuracy: float


class RunCallback(Callback):
    """A callback with hooks for stages and validations, and a part of the checkpoint's header."""

    def on_validated(self, trainer: Trainer, module: LightningModule, validated: Validated) -> None:
        """The validation split has been scored; called again with the same score after a resume."""

    def on_stage_start(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        """The next batch is the first of ``stage``; also called at the start of training."""

    def on_stage_end(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        """``stage`` has ended: the schedule moves on, or training ends."""

    def on_schedule_end(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        """The schedule is at its end before the next batch; perhaps not for the first time."""

    def summary_part(self) -> dict[str, Any]:
        """Entries of summary.json at the end of the run."""
        return {}

    def header_part(self, trainer: Trainer) -> dict[str, Any]:
        """Fields of ``checkpoint_header.Header`` for a checkpoint taken now."""
        return {}


CallbackT = TypeVar("CallbackT", bound=Callback)


def call_hook(
    trainer: Trainer, module: LightningModule, hook: str, argument: Stage | Validated
) -> None:
    """Call a hook of every ``RunCallback``."""
    for callback in callbacks_of(trainer):
        if isinstance(callback, RunCallback):
            getattr(callback, hook)(trainer, module, argument)


def header_parts(trainer: Trainer) -> dict[str, Any]:
    """The header fields of all callbacks for a checkpoint taken now."""
    parts: dict[str, Any] = {}
    for callback in callbacks_of(trainer):
        if isinstance(callback, RunCallback):
            parts |= callback.header_part(trainer)
    return parts


def find(trainer: Trainer, kind: type[CallbackT]) -> CallbackT | None:
    """The first callback of a class, None if there is none."""
    return next((c for c in callbacks_of(trainer) if isinstance(c, kind)), None)


def datamodule_of(trainer: Trainer) -> CoTDataModule:
    """The data module in use."""
    datamodule = datamodule_in(trainer)
    assert isinstance(datamodule, CoTDataModule)
    return datamodule
