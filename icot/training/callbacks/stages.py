"""The callback that owns the stage: it advances the schedule and sets the data module's stage.

The stage of a batch is decided after the batch before it, identically on every rank. It is stored
in checkpoints, never recomputed. Other callbacks react in ``on_stage_end`` and ``on_stage_start``
(``hooks.py``).
"""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from icot.removal import CoTBatch
from icot.schedule import Schedule, Stage
from icot.training.callbacks.clock import clock_of
from icot.training.hooks import RunCallback, call_hook, datamodule_of

TOKENS_REMOVED = "cot/tokens_removed"
STAGE = "cot/stage"


class Stages(RunCallback):
    """Runs a schedule. Put it after the clock.

    Without this callback, a run is trained at the data module's stage, which removes nothing.

    Args:
        schedule: the schedule.

    Attributes:
        stage: of the next batch; None before training.
        trained: the stage of the newest trained batch; None before the first.
    """

    state_key = "stages"

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.stage: Stage | None = None
        self.trained: Stage | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start, or resume from a checkpoint."""
        is_new = self.stage is None
        if self.stage is None:
            self.stage = self.schedule.start(datamodule_of(trainer).longest_cot)
        else:
            self.stage = self.schedule.resume(self.stage, clock_of(trainer).batches)
        datamodule_of(trainer).stage = self.stage
        if is_new:
            call_hook(trainer, pl_module, "on_stage_start", self.stage)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: CoTBatch,
        batch_idx: int,
    ) -> None:
        """Decide the next batch's stage; a skipped batch changes nothing."""
        assert self.stage is not None
        if batch.plan is not None and batch.plan.skipped:
            return
        logged = {TOKENS_REMOVED: self.stage.tokens_removed, STAGE: self.stage.index}
        # Made on the device: copying a number there would synchronise a GPU.
        pl_module.log_dict(
            {name: torch.full((), float(n), device=pl_module.device) for name, n in logged.items()}
        )
        accuracy = None
        if self.schedule.needs_accuracy:
            accuracy = _accuracy_at_stage(trainer, outputs, batch)
        datamodule = datamodule_of(trainer)
        after = self.schedule.after_batch(
            self.stage,
            clock_of(trainer).batches,
            int(trainer.num_training_batches),
            datamodule.longest_cot,
            accuracy,
        )
        self.trained = self.stage.advance(self.stage.tokens_removed)
        moves_on = after.index != self.stage.index
        if moves_on:
            call_hook(trainer, pl_module, "on_stage_end", self.trained)
        before, self.stage = self.stage, after
        datamodule.stage = after
        if moves_on:
            call_hook(trainer, pl_module, "on_stage_start", after)
        was_at_the_end, is_at_the_end = (
            self.schedule.is_at_the_end(stage, datamodule.longest_cot) for stage in (before, after)
        )
        if is_at_the_end and not was_at_the_end:
            call_hook(trainer, pl_module, "on_schedule_end", after)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the last stage, unless no batch of it was trained."""
        if self.stage is not None and self.stage.batches_in_stage > 0:
            call_hook(trainer, pl_module, "on_stage_end", self.stage)

    def header_part(self, trainer: Trainer) -> dict[str, Any]:
        """The stage of the newest trained batch, and that of the next one."""
        if self.stage is None:
            return {}
        return {"trained_at": self.trained or self.stage, "next_stage": self.stage}

    def state_dict(self) -> dict[str, Any]:
        """The stages of the next batch and of the newest trained one."""
        stages = {"stage": self.stage, "trained": self.trained}
        return {k: None if s is None else s.state_dict() for k, s in stages.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.stage, self.trained = (
            None if state_dict[key] is None else Stage.from_state_dict(state_dict[key])
            for key in ("stage", "trained")
        )


def _accuracy_at_stage(
    trainer: Trainer, outputs: dict[str, Tensor], batch: CoTBatch
) -> float | None:
    """Share of exact rows among those without an offset, over all devices.

    If every row has an offset, all rows count; a row that supervises nothing never does. None if
    there is no row.
    """
    exact, judged = outputs["exact"], outputs["judged"]
    offsets = None if batch.plan is None else batch.plan.offsets
    chosen = judged if offsets is None else judged & (offsets == 0)
    counts = torch.stack(
        [(exact & chosen).sum(), chosen.sum(), (exact & judged).sum(), judged.sum()]
    ).float()
    reduced = trainer.strategy.reduce(counts, reduce_op="sum")
    assert isinstance(reduced, Tensor)
    numbers: list[float] = reduced.tolist()  # one synchronisation of a GPU
    right, n, right_of_all, n_of_all = numbers
    if n:
        return right / n
    return right_of_all / n_of_all if n_of_all else None
