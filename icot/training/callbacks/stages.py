"""The callback that owns the stage: it advances the schedule and tells the data module.

The stage of a batch is decided when the batch before it has ended, identically on every rank, and
is stored, never re-derived. Other callbacks react by two hooks, called in the order in which the
callbacks stand:

    on_stage_end(trainer, module, stage)      after the last batch of a stage, before any change
    on_stage_start(trainer, module, stage)    before the first batch of a stage
"""

from typing import Any, TypeVar

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from icot.removal import CoTBatch
from icot.schedule import Schedule, Stage
from icot.training.datamodule import CoTDataModule

TOKENS_REMOVED = "cot/tokens_removed"
STAGE = "cot/stage"


class StageCallback(Callback):
    """A callback with hooks at the borders of stages."""

    def on_stage_start(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        """The next batch is the first of ``stage``, also at the start of training."""

    def on_stage_end(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        """``stage`` has ended: the schedule moves on, or training ends."""


CallbackT = TypeVar("CallbackT", bound=Callback)


def find(trainer: Trainer, kind: type[CallbackT]) -> CallbackT | None:
    """The first callback of a kind, if there is one."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((c for c in callbacks if isinstance(c, kind)), None)


def datamodule_of(trainer: Trainer) -> CoTDataModule:
    """The data module in use."""
    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(datamodule, CoTDataModule)
    return datamodule


def training_is_over(trainer: Trainer) -> bool:
    """Whether, at the end of an epoch, no further batch is to be trained."""
    return bool(trainer.fit_loop.done)


class RemovalSchedule(Callback):
    """Runs a schedule. Put it last, after the callbacks that react to its stages.

    Args:
        schedule: the rule.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.stage: Stage | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, or go on where a checkpoint left off."""
        begun = self.stage is not None
        if self.stage is None:
            self.stage = self.schedule.start(datamodule_of(trainer).longest_cot)
        else:
            self.stage = self.schedule.resumed(self.stage)
        datamodule_of(trainer).stage = self.stage
        if not begun:
            self._tell("on_stage_start", trainer, pl_module, self.stage)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: CoTBatch,
        batch_idx: int,
    ) -> None:
        """Decide the next batch's stage."""
        assert self.stage is not None
        datamodule = datamodule_of(trainer)
        if batch.skipped:
            self.stage = self.stage.skipped()
            datamodule.batch_ended(self.stage)
            return
        pl_module.log_dict(
            {
                TOKENS_REMOVED: float(self.stage.tokens_removed),
                STAGE: float(self.stage.index),
            }
        )
        accuracy = None
        if self.schedule.needs_accuracy:
            accuracy = _accuracy_at_stage(trainer, outputs["exact"], batch)
        after = self.schedule.after_batch(
            self.stage, int(trainer.num_training_batches), datamodule.longest_cot, accuracy
        )
        moves_on = after.index != self.stage.index
        if moves_on:
            ended = self.stage.trained(self.stage.tokens_removed)
            self._tell("on_stage_end", trainer, pl_module, ended)
        self.stage = after
        datamodule.batch_ended(after)
        if moves_on:
            self._tell("on_stage_start", trainer, pl_module, after)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last stage ends with training, unless no batch of it was trained."""
        if self.stage is not None and self.stage.batches_in_stage > 0:
            self._tell("on_stage_end", trainer, pl_module, self.stage)

    def _tell(self, hook: str, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, StageCallback):
                getattr(callback, hook)(trainer, module, stage)

    def state_dict(self) -> dict[str, Any]:
        """The stage of the next batch."""
        return {"stage": None if self.stage is None else self.stage.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        stage = state_dict["stage"]
        self.stage = None if stage is None else Stage.from_state_dict(stage)


def _accuracy_at_stage(trainer: Trainer, exact: Tensor, batch: CoTBatch) -> float:
    """Share of exact rows among those without an offset, over all devices.

    Without any such row the offsets' rows stand in for them.
    """
    offsets = batch.offsets
    chosen = torch.ones_like(exact) if offsets is None else offsets == 0
    counts = torch.stack(
        [(exact & chosen).sum(), chosen.sum(), exact.sum(), torch.ones_like(exact).sum()]
    ).float()
    reduced = trainer.strategy.reduce(counts, reduce_op="sum")
    assert isinstance(reduced, Tensor)
    right, n, right_of_all, n_of_all = (float(count) for count in reduced)
    return right / n if n else right_of_all / n_of_all
