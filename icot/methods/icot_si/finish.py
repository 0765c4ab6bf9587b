"""The end of training, a number of updates after everything is removed.

An adaptive schedule may remove everything early or late; what remains to be learned afterwards
takes about the same number of updates.
"""

from typing import Any

from lightning import LightningModule, Trainer

from icot.schedule import Stage
from icot.training.hooks import RunCallback
from icot.training.lightning_internals import end_after_step
from icot.training.module import TrainingModule


class Finish(RunCallback):
    """Ends training a number of updates after the schedule's end, unless it ends earlier.

    The schedule is at its end when everything is removed, or learned well enough then.

    Args:
        steps: the number of updates.

    Attributes:
        begun: updates done when the schedule was at its end, None before.
    """

    state_key = "finish"

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.begun: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the end again if a run is resumed after the schedule's end."""
        self._set_end(trainer)  # the module then sets the learning rate

    def on_schedule_end(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        """Set the end of training; a run that starts with everything removed has none."""
        if self.begun is None and stage.index > 0:
            self.begun = trainer.global_step
            self._set_end(trainer)
            assert isinstance(module, TrainingModule)
            module.set_learning_rate()

    def _set_end(self, trainer: Trainer) -> None:
        if self.begun is not None:
            end_after_step(trainer, self.begun + self.steps)

    def header_part(self, trainer: Trainer) -> dict[str, Any]:
        """The step at which the schedule was at its end."""
        return {"everything_removed_at_step": self.begun}

    def state_dict(self) -> dict[str, Any]:
        """The step at which the schedule was at its end."""
        return {"begun": self.begun}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.begun = state_dict["begun"]
