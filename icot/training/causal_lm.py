"""The LightningModule: loss and optimizer of a causal LM on ordinary batches; knows no stage.

The loss of an update is the mean over all its supervised tokens, across micro-batches and devices,
so that one large batch, accumulation and data parallelism give the same update.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from icot.models.forward import Parts, compile_parts, parts_of, predict, supervised_logits
from icot.removal import CoTBatch
from icot.training.fully_sharded import (
    FullyShardedStrategy,
    is_sharded,
    own_part,
    shard,
    with_whole_weights,
)
from icot.training.optimizers import learning_rate_factor

LOSS = "train/loss"
TOKEN_ACCURACY = "train/token_accuracy"
EXACT_MATCH = "train/exact_match"
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


class CausalLM(LightningModule):
    """A Hugging Face causal LM in training.

    Args:
        model: what is trained.
        optimizer: makes the optimizer for a model.
        warmup_steps: linear rise of the learning rate at the start, in updates.
        decay_steps: linear fall of the learning rate over the last updates of ``max_steps``.
        compile_mode: of ``torch.compile``; None trains without.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[[nn.Module], Optimizer],
        warmup_steps: int = 0,
        decay_steps: int = 0,
        compile_mode: str | None = None,
    ) -> None:
        super().__init__()
        self.model, self.compile_mode = model, compile_mode
        self._make_optimizer = optimizer
        self.warmup_steps, self.decay_steps = warmup_steps, decay_steps
        self._rise: tuple[int, int] | None = None  # first update and length of the latest rise
        self._batches: list[CoTBatch] = []  # of the update that is being made
        self._parts: Parts | None = None  # of the model, where it comes apart
        self.register_buffer("_tokens", torch.zeros((), dtype=torch.long), persistent=False)
        self.register_buffer("_zero", torch.zeros(()), persistent=False)
        self._tokens: Tensor
        self._zero: Tensor

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

    def on_fit_start(self) -> None:
        """Dropout is on as the model's config says; ``fit`` itself does not switch modes."""
        with self.trainer.precision_plugin.forward_context():
            self._parts = self.with_whole_weights(lambda: parts_of(self.model))
        if self.compile_mode is not None:
            self._parts = compile_parts(self._parts, self.compile_mode, self.device)
        self.train()

    def training_step(self, batch: CoTBatch, batch_idx: int) -> dict[str, Tensor]:
        """The summed loss, and which examples [B] have every token but the first as their argmax.

        The first supervised token is left out because removal smoothing makes it ambiguous: nothing
        before it says how many tokens an example has lost. A batch that is left out has a loss of
        zero, whatever is in it.
        """
        if batch.skipped:
            nothing = self._nothing()
            return {"loss": nothing, "exact": torch.zeros_like(batch.lengths, dtype=torch.bool)}
        self._batches.append(batch)
        found = predict(self.model, batch, self._parts)
        with torch.no_grad():
            correct = found.predicted == found.targets
            row, position = batch.of_examples(found.places)
            counted = position > batch.cot_start[row]
            none = torch.zeros(len(batch.lengths), device=self.device, dtype=torch.float32)
            wrong = none.index_add(0, row, (counted & ~correct).float())
            exact = (wrong == 0) & (none.index_add(0, row, counted.float()) > 0)
            self._tokens += len(correct)
            count = max(1, len(correct))
            self.log_dict(
                {
                    LOSS: found.loss.detach() / count,
                    TOKEN_ACCURACY: correct.sum() / count,
                    EXACT_MATCH: exact.float().mean(),
                },
                batch_size=count,
            )
        return {"loss": found.loss, "exact": exact}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Turn the gradient of the summed loss into that of the mean, then clip its norm.

        Raises:
            NonFiniteError: the norm is not finite.
        """
        tokens = self.trainer.strategy.reduce(self._tokens.clone(), reduce_op="sum")
        assert isinstance(tokens, Tensor)
        self._tokens.zero_()
        # Lightning has divided by the micro-batches of an update, data parallelism by the devices.
        divided = self.trainer.accumulate_grad_batches * self.trainer.world_size
        grads = [own_part(p.grad) for p in self.model.parameters() if p.grad is not None]
        batches, self._batches = self._batches, []
        if not batches:  # all of them are left out: not even the moments move a weight
            optimizer.zero_grad(set_to_none=True)
            return
        torch._foreach_mul_(grads, divided / tokens.clamp(min=1))
        norm = nn.utils.get_total_norm(grads)
        if is_sharded(self):
            squares = self.trainer.strategy.reduce(norm.square(), reduce_op="sum")
            assert isinstance(squares, Tensor)
            norm = squares.sqrt()
        if not torch.isfinite(norm):
            suspects = self.with_whole_weights(lambda: self._suspects(batches))
            raise NonFiniteError(float(norm), *suspects)
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
                logits, targets, places = supervised_logits(self.model, batch)
            losses = F.cross_entropy(logits.float(), targets, reduction="none")
            row, _ = batch.of_examples(places[~torch.isfinite(losses)])
            rows = sorted(set(row.tolist()))
            bad += batch.examples[rows].tolist()
            every += batch.examples.tolist()
        if self.trainer.world_size > 1:
            shares: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(shares, (bad, every))
            bad, every = ([n for share in shares for n in share[i]] for i in (0, 1))
        return (bad, True) if bad else (every, False)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, its rate scheduled by update."""
        optimizer = self._make_optimizer(self.model)
        schedule = LambdaLR(optimizer, self._learning_rate_factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def restart_warmup(self, steps: int) -> None:
        """Let the learning rate rise linearly over the next ``steps`` updates."""
        self._rise = (self.trainer.global_step, steps)
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
            first, length = self._rise
            factor *= min(1.0, (step - first + 1) / length)
        return factor

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep where the learning rate is rising from."""
        checkpoint["learning_rate_rise"] = self._rise

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of ``on_save_checkpoint``."""
        rise = checkpoint.get("learning_rate_rise")
        self._rise = None if rise is None else (rise[0], rise[1])
