"""Validation at exactly the stage that was trained: at the end of every stage and every epoch.

The schedule's own hooks call this before anything changes, so what is measured is the model as it
was trained, at the removal it was trained at, without offsets.
"""

from dataclasses import asdict, replace
from typing import Any

import torch
from lightning import LightningModule, Trainer

from icot.evaluation.scoring import Evaluation, evaluate
from icot.inference.predictor import Decode, GreedyPredictor
from icot.schedule import Stage
from icot.training.callbacks.stages import (
    TOKENS_REMOVED,
    RemovalSchedule,
    StageCallback,
    datamodule_of,
    find,
    training_is_over,
)
from icot.training.causal_lm import CausalLM

ACCURACY = "val/accuracy"
TOKEN_ACCURACY = "val/token_accuracy"
PERPLEXITY = "val/perplexity"


class ValidationAccuracy(StageCallback):
    """Scores the validation split and tells the loggers.

    Args:
        batch_size: examples decoded at once, per device.
        examples: how many of the split are scored at the end of a stage or epoch; None is all.
            The end of training always scores all.
        decode: ``verify`` first, or decode ``always``.

    Attributes:
        latest: the newest evaluation.
        stage: the stage it was made at, None before the first.
    """

    def __init__(
        self, batch_size: int = 500, examples: int | None = None, decode: Decode = "verify"
    ) -> None:
        self.batch_size, self.examples, self.decode = batch_size, examples, decode
        self.latest = Evaluation()
        self.stage: Stage | None = None
        self._complete = False
        self._restored = False  # latest comes from a checkpoint, which keeps no predictions

    def on_stage_end(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        """Score the stage that has ended."""
        self.validate(trainer, module, stage, self.examples)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the epoch, unless its last batch ended a stage or the training."""
        schedule = find(trainer, RemovalSchedule)
        assert schedule is not None
        assert schedule.stage is not None
        if schedule.stage.batches_in_stage > 0 and not training_is_over(trainer):
            self.validate(trainer, pl_module, schedule.stage, self.examples)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the whole split at the last trained stage."""
        schedule = find(trainer, RemovalSchedule)
        assert schedule is not None
        stage = schedule.stage
        if stage is not None and stage.batches_in_stage == 0:
            stage = self.stage  # the last batch ended a stage, and the next was never trained
        if stage is not None:
            self.validate(trainer, pl_module, stage, None)

    def validate(
        self, trainer: Trainer, module: LightningModule, stage: Stage, examples: int | None
    ) -> None:
        """Score ``examples`` of the split, or all; does nothing where that is already known."""
        datamodule = datamodule_of(trainer)
        complete = examples is None or examples >= len(datamodule.split("valid"))
        known = self.stage is not None and self.stage.batches == stage.batches
        known = known and (self._complete or not complete)
        if known and not self._restored:
            return
        assert isinstance(module, CausalLM)
        held_out = datamodule.held_out(
            "valid", stage.tokens_removed, examples, trainer.global_rank, trainer.world_size
        )
        predictor = GreedyPredictor(module.model, self.batch_size, self.decode)
        with trainer.precision_plugin.forward_context():
            share = module.with_whole_weights(
                lambda: evaluate(predictor, held_out, datamodule.task, datamodule.tokenizer)
            )
        self.latest, self.stage, self._complete = _over_devices(trainer, share), stage, complete
        self._restored = False
        if not known:
            self._log(trainer, stage)

    def state_dict(self) -> dict[str, Any]:
        """The newest evaluation without its predictions, and its stage."""
        return {
            "latest": asdict(replace(self.latest, predictions=[])),
            "stage": None if self.stage is None else self.stage.state_dict(),
            "complete": self._complete,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.latest = Evaluation(**state_dict["latest"])
        stage = state_dict["stage"]
        self.stage = None if stage is None else Stage.from_state_dict(stage)
        self._complete, self._restored = state_dict["complete"], stage is not None

    def _log(self, trainer: Trainer, stage: Stage) -> None:
        low, high = self.latest.interval
        measured = {
            ACCURACY: self.latest.accuracy,
            "val/accuracy_low": low,
            "val/accuracy_high": high,
            TOKEN_ACCURACY: self.latest.token_accuracy,
            PERPLEXITY: self.latest.perplexity,
        }
        values = {name: value for name, value in measured.items() if value is not None}
        trainer.callback_metrics.update({k: torch.tensor(v) for k, v in values.items()})
        # One call with the axis, so that W&B can plot accuracy against tokens removed.
        with_axis = {**values, TOKENS_REMOVED: float(stage.tokens_removed)}
        for logger in trainer.loggers:
            logger.log_metrics(with_axis, step=trainer.global_step)


def _over_devices(trainer: Trainer, share: Evaluation) -> Evaluation:
    if trainer.world_size == 1:
        return share
    shares: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(shares, share)
    return sum(shares, Evaluation())
