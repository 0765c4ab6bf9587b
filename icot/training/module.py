"""What every method's training has in common: one optimizer, and a loss that is summed.

A step sums its loss and says by what it counts (supervised tokens, rows, ...). The loss of an
update is then the mean over all of it, across micro-batches and devices, so that one large batch,
accumulation and data parallelism give the same update.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeVar

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from icot.errors import RunError
from icot.models.adapters import WHOLE
from icot.removal import CoTBatch
from icot.runs.checkpoint_header import KEY, Header, StageMark
from icot.schedule import Stage
from icot.training.fully_sharded import (
    FullyShardedStrategy,
    is_sharded,
    own_part,
    shard,
    with_whole_weights,
)
from icot.training.hooks import datamodule_of, header_parts
from icot.training.optimizers import learning_rate_factor

LOSS = "train/loss"
T = TypeVar("T")


class NonFiniteError(ArithmeticError):
    """A gradient that is not a number; the weights have not been touched.

    Attributes:
        norm: of the gradient.
        examples: numbers of the training examples whose loss is not finite, or, where each one's
            is, of all that the gradient comes from; on all devices.
        by_loss: whether the loss shows which examples they are.
    """

    def __init__(self, norm: float, examples: list[int], by_loss: bool) -> None:
        super().__init__(f"the gradient's norm is {norm}")
        self.norm, self.examples, self.by_loss = norm, examples, by_loss


@dataclass(frozen=True)
class StepResult:
    """What a step has found.

    Attributes:
        loss: summed over what it counts, a scalar.
        count: by how much the sum is divided, over an update: tokens, rows, whatever it sums.
        exact: [B] whether an example is right altogether, for schedules that wait for accuracy;
            None where a method cannot say.
        judged: [B] whether an example has what ``exact`` judges; None where each has.
    """

    loss: Tensor
    count: int
    exact: Tensor | None = None
    judged: Tensor | None = None


class TrainingModule(LightningModule, ABC):
    """A model in training; a method says what a step is.

    Args:
        model: what is trained; parameters that need no gradient stay as they are.
        optimizer: makes the optimizer for a model.
        warmup_steps: linear rise of the learning rate at the start, in updates.
        decay_steps: linear fall of the learning rate over the last updates of ``max_steps``.
        method: its name, which checkpoints keep.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[[nn.Module], Optimizer],
        warmup_steps: int = 0,
        decay_steps: int = 0,
        method: str = "",
    ) -> None:
        super().__init__()
        self.model, self.method = model, method
        self._make_optimizer = optimizer
        self.warmup_steps, self.decay_steps = warmup_steps, decay_steps
        self._rise: tuple[int, int] | None = None  # update at which the latest rise began, length
        self._batches: list[CoTBatch] = []  # of the update that is being made
        self.register_buffer("_counted", torch.zeros((), dtype=torch.long), persistent=False)
        self.register_buffer("_zero", torch.zeros(()), persistent=False)
        self._counted: Tensor
        self._zero: Tensor

    @abstractmethod
    def step(self, batch: CoTBatch) -> StepResult:
        """The summed loss of a batch on this device."""

    @abstractmethod
    def losses(self, batch: CoTBatch) -> tuple[Tensor, Tensor]:
        """Losses [N], and the example [N] of the batch that each belongs to; without gradients."""

    @property
    def trained(self) -> nn.Module:
        """What the optimizer changes; a subclass may have more than the model."""
        return self.model

    def configure_model(self) -> None:
        """Split the weights over the devices where the strategy says so."""
        if isinstance(self.trainer.strategy, FullyShardedStrategy) and not is_sharded(self):
            mesh = self.trainer.strategy.device_mesh["data_parallel"]
            shard(self, mesh, ("training_step", "_as_forward"))

    def with_whole_weights(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, which may use the model as no other device does at the time."""
        return with_whole_weights(self, self._as_forward, work)

    def _as_forward(self, work: Callable[[], T]) -> T:
        return work()

    def on_train_start(self) -> None:
        """Set the learning rate by where training ends now.

        The checkpoint of a finished run has the rate 0 after a decay; a run made longer goes on at
        the rate that its new length gives.
        """
        self.set_learning_rate()

    def on_fit_start(self) -> None:
        """Dropout is on as the model's config says; ``fit`` itself does not switch modes."""
        self.train()

    def training_step(self, batch: CoTBatch, batch_idx: int) -> dict[str, Tensor]:
        """The summed loss, and which examples are right where the method says so.

        A batch that is left out has a loss of zero, whatever is in it.
        """
        if batch.plan is not None and batch.plan.skipped:
            return {"loss": self._nothing()}
        self._batches.append(batch)
        found = self.step(batch)
        self._counted += found.count
        if found.exact is None:
            return {"loss": found.loss}
        judged = torch.ones_like(found.exact) if found.judged is None else found.judged
        return {"loss": found.loss, "exact": found.exact, "judged": judged}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Turn the gradient of the summed loss into that of the mean, then clip its norm.

        An update of which nothing was trained on, because all of its batches are left out or all
        of their examples too long, counts as an update, but leaves weights and moments alone:
        without gradients an optimizer does nothing, not even weight decay.

        Raises:
            NonFiniteError: the norm is not finite.
        """
        counted = self.trainer.strategy.reduce(self._counted.clone(), reduce_op="sum")
        assert isinstance(counted, Tensor)
        self._counted.zero_()
        # Lightning has divided by the micro-batches of an update, data parallelism by the devices.
        divided = self.trainer.accumulate_grad_batches * self.trainer.world_size
        grads = [own_part(p.grad) for p in self.parameters() if p.grad is not None]
        batches, self._batches = self._batches, []
        if not batches:  # known without a synchronisation
            optimizer.zero_grad(set_to_none=True)
            return
        torch._foreach_mul_(grads, divided / counted.clamp(min=1))
        norm = nn.utils.get_total_norm(grads)
        if is_sharded(self):
            squares = self.trainer.strategy.reduce(norm.square(), reduce_op="sum")
            assert isinstance(squares, Tensor)
            norm = squares.sqrt()
        # One synchronisation of a GPU for both.
        found_norm, found_count = torch.stack([norm.float(), counted.float()]).tolist()
        if not found_count:
            optimizer.zero_grad(set_to_none=True)
            return
        if not isfinite(found_norm):
            suspects = self.with_whole_weights(lambda: self._suspects(batches))
            raise NonFiniteError(found_norm, *suspects)
        if gradient_clip_val:
            # Lightning's own clipping refuses fused optimizers under autocast, for a gradient
            # scaler's sake; there is none in bf16.
            torch._foreach_mul_(grads, (gradient_clip_val / (norm + 1e-6)).clamp(max=1))

    def _nothing(self) -> Tensor:
        """Zero, with a gradient that data parallelism can reduce."""
        if is_sharded(self):
            return self._zero.clone().requires_grad_()
        return sum((p.sum() * 0 for p in self.parameters() if p.requires_grad), self._zero)

    @torch.no_grad()
    def _suspects(self, batches: list[CoTBatch]) -> tuple[list[int], bool]:
        """The examples whose loss is not finite, or all, and which of the two; on all devices."""
        bad: list[int] = []
        every: list[int] = []
        for batch in batches:
            if batch.examples is None:  # this device had no share of the batch
                continue
            with self.trainer.precision_plugin.forward_context():
                losses, row = self.losses(batch)
            rows = sorted(set(row[~torch.isfinite(losses)].tolist()))
            bad += batch.examples[rows].tolist()
            every += batch.examples.tolist()
        if self.trainer.world_size > 1:
            shares: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(shares, (bad, every))
            bad, every = ([n for share in shares for n in share[i]] for i in (0, 1))
        return (bad, True) if bad else (every, False)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, its rate scheduled by update."""
        optimizer = self._make_optimizer(self.trained)
        schedule = LambdaLR(optimizer, self._learning_rate_factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def restart_warmup(self, steps: int) -> None:
        """Let the learning rate rise linearly over the next ``steps`` updates."""
        self._rise = (self.trainer.global_step, steps)
        self.set_learning_rate()

    def set_learning_rate(self) -> None:
        """Give the next update the rate of its number, which depends on where training ends."""
        for schedule in self.trainer.lr_scheduler_configs:
            for group, base in zip(
                schedule.scheduler.optimizer.param_groups,
                schedule.scheduler.base_lrs,
                strict=True,
            ):
                group["lr"] = base * self._learning_rate_factor(self.trainer.global_step)

    def _learning_rate_factor(self, step: int) -> float:
        trainer = self._trainer
        total = trainer.max_steps if trainer is not None and trainer.max_steps > 0 else None
        factor = learning_rate_factor(step, self.warmup_steps, self.decay_steps, total)
        if self._rise is not None:
            begin, length = self._rise
            factor *= min(1.0, (step - begin + 1) / length)
        return factor

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the header, and keep where the learning rate is rising from."""
        checkpoint["learning_rate_rise"] = self._rise
        checkpoint[KEY] = self._header("optimizer_states" in checkpoint).as_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of ``on_save_checkpoint``.

        Raises:
            RunError: the weights are those of another model.
        """
        self._check_weights(checkpoint["state_dict"])
        rise = checkpoint.get("learning_rate_rise")
        self._rise = None if rise is None else (rise[0], rise[1])

    def _check_weights(self, weights: Mapping[str, Any]) -> None:
        """Refuse weights that are not this model's before torch does."""
        if any(WHOLE in name for name in set(self.state_dict()) - set(weights)):
            raise RunError(
                "this run with model.lora was begun by an earlier version, which lengthened the "
                "position embeddings and did not train the new ones; it can be evaluated, but not "
                "resumed. Start a new run."
            )

    def _header(self, resumes: bool) -> Header:
        """What a checkpoint taken now says of itself, from what the callbacks say."""
        data = datamodule_of(self.trainer)

        def as_mark(value: Any) -> Any:
            if not isinstance(value, Stage):
                return value
            everything = value.tokens_removed >= data.longest_cot
            return StageMark(value.index, value.tokens_removed, everything)

        parts = {
            "step": self.trainer.global_step,
            "epoch": self.trainer.current_epoch,
            "trained_at": data.stage,
            "next_stage": data.stage,
            **header_parts(self.trainer),
        }
        told = {key: as_mark(value) for key, value in parts.items()}
        return Header(method=self.method, resumes=resumes, **told)
