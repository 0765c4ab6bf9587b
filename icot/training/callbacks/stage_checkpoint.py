"""Checkpoints with only weights: the best model, and optionally each stage.

    checkpoints/best.ckpt            highest validation accuracy with the whole chain removed,
                                     or in a run that removes the same tokens throughout
    checkpoints/stage-0003.ckpt      the end of stage 3

A run is resumed from ``last.ckpt``, not from these.
"""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer

from icot.runs.layout import BEST_FILE, stage_file
from icot.schedule import Stage
from icot.training.hooks import RunCallback, Validated, datamodule_of


class StageCheckpoint(RunCallback):
    """Saves weights at the ends of stages. Put it after ``ValidationAccuracy``.

    Args:
        folder: of the files.
        every_stage: keep the final weights of each stage.
        at_any_stage: the best is that of all stages, not of those with the whole chain removed.
    """

    state_key = "stage_checkpoint"

    def __init__(
        self, folder: str | Path, every_stage: bool = False, at_any_stage: bool = False
    ) -> None:
        self.folder, self.every_stage = Path(folder), every_stage
        self.at_any_stage = at_any_stage
        self.best_accuracy = -1.0
        self._newest: Validated | None = None

    def on_validated(self, trainer: Trainer, module: LightningModule, validated: Validated) -> None:
        """Keep the result until the batch is complete."""
        self._newest = validated

    def on_stage_end(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        """Save the stage if asked to, and the best weights."""
        if self.every_stage:
            self._save(trainer, stage_file(stage.index))
        self._keep_best(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save the best weights, if the batch before was validated."""
        self._keep_best(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the best weights."""
        self._keep_best(trainer)

    def _keep_best(self, trainer: Trainer) -> None:
        newest, self._newest = self._newest, None
        if newest is None:
            return
        removed = newest.stage.tokens_removed
        if not self.at_any_stage and removed < datamodule_of(trainer).longest_cot:
            return
        if newest.accuracy > self.best_accuracy:
            self.best_accuracy = newest.accuracy
            self._save(trainer, BEST_FILE)

    def _save(self, trainer: Trainer, name: str) -> None:
        trainer.save_checkpoint(self.folder / name, weights_only=True)

    def state_dict(self) -> dict[str, Any]:
        """The best accuracy so far, on the examples that every validation scores."""
        return {"best_accuracy": self.best_accuracy}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.best_accuracy = state_dict["best_accuracy"]
