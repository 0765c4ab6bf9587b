"""The emulator's validation: its distance to the teacher's states; the smallest is kept."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer

from icot.inference.greedy import evaluation_mode
from icot.methods.icot_kd.training import EmulatorModule, distance
from icot.runs.layout import BEST_FILE
from icot.schedule import Stage
from icot.training.callbacks.clock import clock_of
from icot.training.hooks import RunCallback, datamodule_of

DISTANCE = "val/distance"


class DistanceValidation(RunCallback):
    """Logs the mean distance on the validation split, and keeps the weights of the smallest.

    Args:
        folder: of the checkpoints.
        examples: to use while training; None is all. The end of training uses all.
        batch_size: examples at once.

    Attributes:
        distance: the newest; None before the first.
        best: the smallest while training.
    """

    state_key = "distance_validation"

    def __init__(self, folder: Path, examples: int | None, batch_size: int) -> None:
        self.folder, self.examples, self.batch_size = folder, examples, batch_size
        self.distance: float | None = None
        self.best: float | None = None
        self._batches = -1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, and keep the best."""
        self._validate(trainer, pl_module, self.examples)

    def on_stage_end(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        """The same, at the end of training in the middle of an epoch."""
        if clock_of(trainer).batches != self._batches:
            self._validate(trainer, module, self.examples)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure on the whole split."""
        self.distance = self._measure(trainer, pl_module, None)

    def _validate(self, trainer: Trainer, module: LightningModule, examples: int | None) -> None:
        self._batches = clock_of(trainer).batches
        self.distance = self._measure(trainer, module, examples)
        if self.best is None or self.distance < self.best:
            self.best = self.distance
            trainer.save_checkpoint(self.folder / BEST_FILE, weights_only=True)
        for logger in trainer.loggers:
            logger.log_metrics({DISTANCE: self.distance}, step=trainer.global_step)

    def _measure(self, trainer: Trainer, module: LightningModule, examples: int | None) -> float:
        assert isinstance(module, EmulatorModule)
        summed = module.with_whole_weights(lambda: self._sum(trainer, module, examples))
        if trainer.world_size > 1:
            reduced = trainer.strategy.reduce(summed, reduce_op="sum")
            assert isinstance(reduced, torch.Tensor)
            summed = reduced
        return float(summed[0] / summed[1])

    @torch.no_grad()
    def _sum(self, trainer: Trainer, module: EmulatorModule, examples: int | None) -> torch.Tensor:
        """Sum of the distances, and the number of examples, of this device's share."""
        held_out = datamodule_of(trainer).held_out(
            "valid", 0, examples, trainer.global_rank, trainer.world_size
        )
        summed = torch.zeros(2, dtype=torch.double, device=module.device)
        rows = np.arange(len(held_out))
        with evaluation_mode(module.model), trainer.precision_plugin.forward_context():
            for _, batch in held_out.batches(rows, self.batch_size):
                whole = batch.to(module.device)
                question = whole.input_ids[:, : int(batch.cot_start.max())]
                states = module.model(question, whole.cot_start - 1).states
                summed[0] += distance(states, module.teacher.states(whole)).sum()
                summed[1] += len(states)
        return summed

    def summary_part(self) -> dict[str, Any]:
        """The distance on the whole split at the end, and the smallest while training."""
        return {"distance": self.distance, "best_distance": self.best}

    def state_dict(self) -> dict[str, Any]:
        """The newest and the smallest distance."""
        return {"distance": self.distance, "best": self.best, "batches": self._batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.distance, self.best = state_dict["distance"], state_dict["best"]
        self._batches = state_dict["batches"]
