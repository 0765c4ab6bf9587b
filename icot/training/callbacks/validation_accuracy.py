"""Validation at the end of every stage, and of every epoch or after every so many updates.

The model is scored at the stage that was trained.

It runs before the stage changes, so the model is measured with the removal that it was trained at,
without offsets. Other callbacks get the result in ``on_validated``.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import nn

from icot.evaluation.scoring import Evaluation, evaluate
from icot.inference.predictor import GreedyPredictor, Predictor
from icot.removal import CoTBatch
from icot.schedule import Stage
from icot.training.callbacks.clock import clock_of
from icot.training.callbacks.stages import TOKENS_REMOVED, Stages
from icot.training.hooks import RunCallback, Validated, call_hook, datamodule_of, find
from icot.training.lightning_internals import training_is_over
from icot.training.module import TrainingModule

ACCURACY = "val/accuracy"
TOKEN_ACCURACY = "val/token_accuracy"
PERPLEXITY = "val/perplexity"


class ValidationAccuracy(RunCallback):
    """Scores the validation split and logs the result.

    Args:
        build_predictor: makes the predictor for the model in training.
        examples: the number of examples to score at the end of a stage or epoch; None is all. The
            end of training always scores all.
        measures: before the names in the log, where this is not the method's result.
        every_steps: updates between two validations, in place of the end of each epoch.
        max_new_tokens: that may be written, if it is more than the longest correct output.

    Attributes:
        latest: the newest evaluation.
        stage: the stage of that evaluation; None before the first.
    """

    state_key = "validation_accuracy"

    def __init__(
        self,
        build_predictor: Callable[[nn.Module], Predictor] = GreedyPredictor,
        examples: int | None = None,
        measures: str = "",
        every_steps: int | None = None,
        max_new_tokens: int = 0,
    ) -> None:
        self.build_predictor, self.examples = build_predictor, examples
        self.measures, self.max_new_tokens = measures, max_new_tokens
        self.every_steps = every_steps
        self._step = 0  # updates after the newest batch
        self.latest = Evaluation()
        self.stage: Stage | None = None
        self._accuracy = 0.0  # what validations are compared by
        self._batches = -1  # batches of the run before the newest evaluation
        self._complete = False
        self._restored = False  # latest comes from a checkpoint, which keeps no predictions

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Announce the result that a checkpoint has restored."""
        self._step = trainer.global_step
        if self._restored:
            self._announce(trainer, pl_module)

    def on_stage_end(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        """Score the model at the stage that has ended."""
        self.validate(trainer, module, stage, self.examples)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: CoTBatch,
        batch_idx: int,
    ) -> None:
        """Score the model after so many updates, if it is to be; a stage may end after that."""
        is_update, self._step = trainer.global_step > self._step, trainer.global_step
        if self.every_steps is not None and is_update and self._step % self.every_steps == 0:
            self.validate(trainer, pl_module, datamodule_of(trainer).stage, self.examples)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the model, unless updates count or the last batch ended a stage or training."""
        if self.every_steps is not None:
            return
        if not _stage_has_just_ended(trainer) and not training_is_over(trainer):
            self.validate(trainer, pl_module, datamodule_of(trainer).stage, self.examples)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the whole split at the last trained stage."""
        if not _stage_has_just_ended(trainer):
            self.validate(trainer, pl_module, datamodule_of(trainer).stage, None)
        elif self.stage is not None:  # the last batch ended a stage; the next was not trained
            self.validate(trainer, pl_module, self.stage, None, self._batches)

    def validate(
        self,
        trainer: Trainer,
        module: LightningModule,
        stage: Stage,
        examples: int | None,
        batches: int | None = None,
    ) -> None:
        """Score the model, unless it has been scored already.

        Args:
            trainer, module: in training.
            stage: at which the model was trained.
            examples: of the split; None for all.
            batches: batches of the run so far; None takes the clock's number.
        """
        datamodule = datamodule_of(trainer)
        complete = examples is None or examples >= len(datamodule.split("valid"))
        batches = clock_of(trainer).batches if batches is None else batches
        is_scored = self.stage is not None and self._batches == batches
        is_scored = is_scored and (self._complete or not complete)
        if is_scored and not self._restored:
            return
        assert isinstance(module, TrainingModule)
        held_out = datamodule.held_out(
            "valid", stage.tokens_removed, examples, trainer.global_rank, trainer.world_size
        )
        held_out = replace(held_out, max_new_tokens=self.max_new_tokens)
        predictor = self.build_predictor(module.model)
        with trainer.precision_plugin.forward_context():
            share = module.with_whole_weights(
                lambda: evaluate(predictor, held_out, datamodule.task, datamodule.tokenizer)
            )
        self.latest, self.stage, self._complete = _over_devices(trainer, share), stage, complete
        self._batches, self._restored = batches, False
        self._accuracy = self.latest.accuracy
        if self.examples is not None and self.latest.n > self.examples:
            self._accuracy = self.latest.accuracy_on_first(self.examples)
        if not is_scored:
            self._log(trainer, stage)
        self._announce(trainer, module)

    def _announce(self, trainer: Trainer, module: LightningModule) -> None:
        assert self.stage is not None
        validated = Validated(
            self.latest, self.stage, self._batches, self._complete, self._accuracy
        )
        call_hook(trainer, module, "on_validated", validated)

    def state_dict(self) -> dict[str, Any]:
        """The newest evaluation without its predictions, and its stage."""
        return {
            "latest": asdict(replace(self.latest, predictions=[])),
            "stage": None if self.stage is None else self.stage.state_dict(),
            "batches": self._batches,
            "complete": self._complete,
            "accuracy": self._accuracy,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.latest = Evaluation(**state_dict["latest"])
        stage = state_dict["stage"]
        self.stage = None if stage is None else Stage.from_state_dict(stage)
        self._batches, self._complete = state_dict["batches"], state_dict["complete"]
        self._restored = stage is not None
        if self._restored:  # checkpoints of before have no such number of their own
            self._accuracy = state_dict.get("accuracy", self.latest.accuracy)

    def _log(self, trainer: Trainer, stage: Stage) -> None:
        low, high = self.latest.interval
        measured = {
            ACCURACY: self.latest.accuracy,
            "val/accuracy_low": low,
            "val/accuracy_high": high,
            TOKEN_ACCURACY: self.latest.token_accuracy,
            PERPLEXITY: self.latest.perplexity,
        }
        values = {
            name.replace("/", f"/{self.measures}"): value
            for name, value in measured.items()
            if value is not None
        }
        trainer.callback_metrics.update({k: torch.tensor(v) for k, v in values.items()})
        # One call with both, so that W&B can plot accuracy against tokens removed.
        with_axis = {**values, TOKENS_REMOVED: float(stage.tokens_removed)}
        for logger in trainer.loggers:
            logger.log_metrics(with_axis, step=trainer.global_step)


def _stage_has_just_ended(trainer: Trainer) -> bool:
    """Whether no batch of the present stage is trained yet; False in a run without stages."""
    stages = find(trainer, Stages)
    return stages is not None and (stages.stage is None or stages.stage.batches_in_stage == 0)


def _over_devices(trainer: Trainer, share: Evaluation) -> Evaluation:
    if trainer.world_size == 1:
        return share
    shares: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(shares, share)
    return sum(shares, Evaluation())
