"""The step of a causal LM on ordinary batches; knows no stage."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from icot.models.forward import (
    Parts,
    SupervisedTokens,
    compile_parts,
    parts_of,
    predict,
    supervised_logits,
)
from icot.removal import CoTBatch
from icot.training.module import LOSS, StepResult, TrainingModule

TOKEN_ACCURACY = "train/token_accuracy"
EXACT_MATCH = "train/exact_match"


class CausalLM(TrainingModule):
    """A Hugging Face causal LM in training.

    Args:
        model: what is trained.
        optimizer: makes the optimizer for a model.
        warmup_steps: linear rise of the learning rate at the start, in updates.
        decay_steps: linear fall of the learning rate over the last updates of ``max_steps``.
        compile_mode: of ``torch.compile``; None trains without.
        method: its name, which checkpoints keep.
        count_first: whether an example's first supervised token counts for its exactness.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[[nn.Module], Optimizer],
        warmup_steps: int = 0,
        decay_steps: int = 0,
        compile_mode: str | None = None,
        method: str = "",
        count_first: bool = False,
    ) -> None:
        super().__init__(model, optimizer, warmup_steps, decay_steps, method)
        self.compile_mode, self.count_first = compile_mode, count_first
        self.hidden_layers: tuple[int, ...] = ()  # whose hidden states ``further_loss`` needs
        self._parts: Parts | None = None  # of the model, where it comes apart

    @property
    def causal_lm(self) -> nn.Module:
        """What computes logits; a subclass may have it inside its model."""
        return self.model

    def on_fit_start(self) -> None:
        """Take the model apart where it comes apart, and compile it if asked to."""
        with self.trainer.precision_plugin.forward_context():
            self._parts = self.with_whole_weights(lambda: parts_of(self.causal_lm))
        if self.compile_mode is not None:
            self._parts = compile_parts(self._parts, self.compile_mode, self.device)
        super().on_fit_start()

    def step(self, batch: CoTBatch) -> StepResult:
        """The loss summed over supervised tokens.

        An example [B] is exact where every token is the most probable one. The first supervised
        token is left out unless ``count_first``: removal smoothing makes it ambiguous where nothing
        before it says how many tokens an example has lost.
        """
        found = predict(self.causal_lm, batch, self._parts, self.hidden_layers)
        with torch.no_grad():
            correct = found.predicted == found.targets
            row, position = batch.of_examples(found.places)
            counted = position >= batch.cot_start[row] + (not self.count_first)
            none = torch.zeros(len(batch.lengths), device=self.device, dtype=torch.float32)
            wrong = none.index_add(0, row, (counted & ~correct).float())
            judged = none.index_add(0, row, counted.float()) > 0
            exact = (wrong == 0) & judged
            count = len(correct)
            # Without a supervised token, the metrics are not numbers (0 / 0). If they were left
            # out, Lightning would log those of an earlier batch again.
            self.log_dict(
                {
                    LOSS: found.loss.detach() / count,
                    TOKEN_ACCURACY: correct.sum() / count,
                    EXACT_MATCH: exact.float().mean() / min(1, count),
                },
                batch_size=max(1, count),
            )
        return StepResult(found.loss + self.further_loss(batch, found), count, exact, judged)

    def further_loss(self, batch: CoTBatch, found: SupervisedTokens) -> Tensor | float:
        """What a subclass adds to the summed loss."""
        return 0.0

    def losses(self, batch: CoTBatch) -> tuple[Tensor, Tensor]:
        """The loss of each supervised token [N], and the example [N] that it belongs to."""
        logits, targets, places = supervised_logits(self.causal_lm, batch)
        row, _ = batch.of_examples(places)
        return F.cross_entropy(logits.float(), targets, reduction="none"), row
