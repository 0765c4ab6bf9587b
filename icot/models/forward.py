"""The forward pass and loss on supervised tokens; independent of task and stage.

Logits are computed only for supervised tokens. In training with a large vocabulary, the output
layer, the cross-entropy and their gradients are computed in chunks of tokens, so that all logits
never exist at once.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.cache_utils import Cache, DynamicLayer

from icot.errors import ModelError
from icot.removal import IGNORED, CoTBatch

LARGE_VOCABULARY = 4096  # tokens; from this size on, logits are computed in chunks
CPU_LOGITS, GPU_LOGITS = 2**24, 2**28  # in one chunk
TILE = 8192  # rows of the weight whose gradient, in the compute type, fits into a CPU's cache
AGREEMENT = 0.01  # equal hidden states may differ in bf16 by this share of the largest one
LARGE_LOGIT = 1e4  # larger than any cap, and a number in float16


@dataclass(frozen=True)
class SupervisedTokens:
    """The N supervised tokens of a batch, with the model's loss and predictions.

    Attributes:
        loss: summed cross-entropy, a scalar.
        predicted: [N] the most probable tokens.
        targets: [N] the tokens.
        places: [N, 2] their rows and columns.
        hidden: [B, T, D] hidden states of each layer that was asked for.
    """

    loss: Tensor
    predicted: Tensor
    targets: Tensor
    places: Tensor
    hidden: tuple[Tensor, ...] = ()


def supervised_logits(model: Callable[..., Any], batch: CoTBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Logits for the supervised tokens of a batch, each predicted from all tokens before it.

    Args:
        model: a Hugging Face causal LM.
        batch: on the model's device.

    Returns:
        Logits [N, V] for the N supervised tokens, the tokens [N], their rows and columns [N, 2];
        ordered by row, then column.
    """
    places = _places(batch)
    if batch.places is not None:  # which may be in another order
        places = places[(places[:, 0] * batch.labels.shape[1] + places[:, 1]).argsort()]
    row, column = places.unbind(1)
    before = torch.zeros_like(batch.labels, dtype=torch.bool)
    before[row, column - 1] = True  # token t is predicted at position t - 1
    logits: Tensor = model(**_inputs(batch), logits_to_keep=before).logits
    return logits, batch.labels[row, column], places


def predict(
    model: nn.Module, batch: CoTBatch, parts: "Parts | None" = None, layers: Sequence[int] = ()
) -> SupervisedTokens:
    """The loss on the supervised tokens of a batch, and the most probable token for each.

    Args:
        model: a Hugging Face causal LM.
        batch: on the model's device.
        parts: of the model, from ``parts_of``; None computes all logits at once.
        layers: also return the hidden states after so many layers, for each of these numbers.
    """
    if parts is None:
        logits, targets, places = supervised_logits(model, batch)
        loss = F.cross_entropy(_at_least_float32(logits), targets, reduction="sum")
        return SupervisedTokens(loss, logits.detach().argmax(-1), targets, places)
    places = _places(batch)
    row, column = places.unbind(1)
    states = {"output_hidden_states": True} if layers else {}
    output = parts.body(**_inputs(batch), **states)
    hidden: Tensor = output.last_hidden_state
    before = row * hidden.shape[1] + column - 1
    kept = hidden.flatten(0, 1).index_select(0, before)
    targets = batch.labels[row, column]
    loss, predicted = output_loss(parts.head, kept, targets)
    of_layers = tuple(output.hidden_states[layer] for layer in layers)
    return SupervisedTokens(loss, predicted, targets, places, of_layers)


def output_loss(
    head: nn.Linear, hidden: Tensor, targets: Tensor, counts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy of the output layer on [N, D], and the most probable tokens [N].

    Args:
        head: the output layer.
        hidden: [N, D] what it reads.
        targets: [N] the correct tokens.
        counts: [N] how much each one counts; None counts each as 1.
    """
    weight = head.weight
    if weight.shape[0] < LARGE_VOCABULARY or getattr(head, "bias", None) is not None:
        logits = head(hidden)
        if counts is None:
            loss = F.cross_entropy(_at_least_float32(logits), targets, reduction="sum")
        else:
            losses = F.cross_entropy(_at_least_float32(logits), targets, reduction="none")
            loss = (losses * counts).sum()
        return loss, logits.detach().argmax(-1)
    device = weight.device.type
    if torch.is_autocast_enabled(device):
        hidden = hidden.to(torch.get_autocast_dtype(device))
    found: tuple[Tensor, Tensor] = _OutputLoss.apply(hidden, weight, targets, counts)  # type: ignore[no-untyped-call]
    return found


@dataclass(frozen=True)
class Parts:
    """The two parts of a causal LM.

    Attributes:
        body: from tokens to hidden states.
        head: from hidden states to logits.
    """

    body: nn.Module
    head: nn.Linear


@torch.no_grad()
def parts_of(model: nn.Module) -> Parts | None:
    """The parts of a model whose logits are its output layer's result; None for any other model.

    Some architectures scale or cap their logits, or change what the output layer gets. A short pass
    checks that, in which large numbers stand for the output layer's result: a cap does nothing to
    the small logits of a model that has learned nothing yet.
    """
    inner: Any = model
    if hasattr(model, "get_base_model"):  # a model with adapters
        inner = inner.get_base_model()
    body = getattr(inner, getattr(inner, "base_model_prefix", ""), None)
    head = getattr(inner, "get_output_embeddings", lambda: None)()
    if body is None or type(head) is not nn.Linear or getattr(head, "bias", None) is not None:
        return None
    seen: dict[str, Tensor] = {}

    def after_body(module: nn.Module, inputs: Any, output: Any) -> None:
        seen["hidden"] = output.last_hidden_state

    def after_head(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        large = torch.linspace(-LARGE_LOGIT, LARGE_LOGIT, output.numel(), device=output.device)
        seen["given"], seen["made"] = inputs[0], large.view_as(output).to(output.dtype)
        return seen["made"]

    training = model.training
    tokens = torch.arange(4, device=head.weight.device)[None] % head.weight.shape[0]
    model.eval()
    hooks = [body.register_forward_hook(after_body), head.register_forward_hook(after_head)]
    try:
        logits: Tensor = model(input_ids=tokens, use_cache=False).logits
    finally:
        for hook in hooks:
            hook.remove()
    alone: Tensor = body(input_ids=tokens, use_cache=False).last_hidden_state
    model.train(training)
    if len(seen) < 3:  # the model does not call them
        return None
    hidden, given, made = (seen[name] for name in ("hidden", "given", "made"))
    same_pass = torch.equal(hidden.to(given.dtype), given) and torch.equal(
        logits.to(made.dtype), made
    )
    if not same_pass or (alone - hidden).abs().max() > AGREEMENT * hidden.abs().max():
        return None
    return Parts(body, head)


def compile_parts(parts: Parts | None, mode: str, device: torch.device) -> Parts:
    """Compile the body of a model; the weights stay the same.

    Args:
        parts: of the model.
        mode: of ``torch.compile``. Modes with CUDA graphs compile for each length, the default mode
            once for all lengths.
        device: of the model.

    Raises:
        ModelError: the model cannot be split, or the machine has no compiler.
    """
    if parts is None:
        raise ModelError(
            "model.compile: this architecture scales or caps its logits and cannot be compiled."
        )
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise ModelError(f"model.compile needs a C++ compiler on a CPU; there is no {compiler}.")
    body: Any = torch.compile(parts.body, mode=mode, dynamic=mode == "default")
    return replace(parts, body=body)


class _OutputLoss(torch.autograd.Function):
    """Output layer and cross-entropy: from [N, D] and [V, D] to the summed loss and argmax [N].

    It computes in the type of the hidden states. The forward pass also computes the gradients,
    while a chunk's logits exist; the weight's is summed over chunks in float32 at least.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, counts: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        most = CPU_LOGITS if hidden.device.type == "cpu" else GPU_LOGITS
        size = max(1, most // weight.shape[0])
        loss = _at_least_float32(torch.zeros((), device=hidden.device, dtype=hidden.dtype))
        predicted = torch.empty_like(targets)
        wants_hidden, wants_weight, *_ = ctx.needs_input_grad
        of_hidden = torch.empty_like(hidden) if wants_hidden else None
        summed = torch.promote_types(weight.dtype, torch.float32)
        of_weight = torch.zeros_like(weight, dtype=summed) if wants_weight else None
        low = weight.to(hidden.dtype)
        for start in range(0, len(targets), size):
            part, target = hidden[start : start + size], targets[start : start + size, None]
            logits = _at_least_float32(part @ low.T)
            largest, predicted[start : start + size] = logits.max(-1)
            own = logits.gather(1, target)
            powers = logits.sub_(
                largest[:, None]
            ).exp_()  # in place: a chunk is larger than a cache
            total = powers.sum(-1, keepdim=True)
            losses = total.log() + largest[:, None] - own
            gradient = powers.div_(total)
            gradient.scatter_add_(1, target, torch.full_like(own, -1))
            if counts is not None:
                part_counts = counts[start : start + size, None]
                losses, gradient = losses * part_counts, gradient * part_counts
            loss += losses.sum()
            gradient = gradient.to(low.dtype)
            if of_hidden is not None:
                torch.mm(gradient, low, out=of_hidden[start : start + size])
            if of_weight is not None and of_weight.dtype == low.dtype:
                of_weight.addmm_(gradient.T, part)
            elif of_weight is not None:
                for begin in range(0, len(of_weight), TILE):
                    tile = slice(begin, begin + TILE)
                    of_weight[tile] += gradient[:, tile].T @ part
        ctx.save_for_backward(of_hidden, of_weight)
        ctx.mark_non_differentiable(predicted)
        return loss, predicted

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, Tensor | None, None, None]:
        of_hidden, of_weight = ctx.saved_tensors
        scale = gradients[0]
        return (
            None if of_hidden is None else of_hidden.mul_(scale),
            None if of_weight is None else of_weight.mul_(scale),
            None,
            None,
        )


def _at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype.itemsize < 4 else values


class KeepingNothing(DynamicLayer):  # type: ignore[no-untyped-call]
    """A cache layer that stores nothing."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the new keys and values alone."""
        return key_states, value_states


def _inputs(batch: CoTBatch) -> dict[str, Any]:
    """The arguments of the model.

    Without a cache, transformers searches the position ids for packed sequences: this synchronises
    a GPU, and takes a jump in kept ids for the start of another sequence.
    """
    packed = batch.owners is not None
    return {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "past_key_values": None if packed else Cache(layer_class_to_replicate=KeepingNothing),
        "use_cache": False,
    }


def _places(batch: CoTBatch) -> Tensor:
    """Row and column [N, 2] of each supervised token, except a row's first token."""
    if batch.places is not None:
        return batch.places
    row, column = (batch.labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
    return torch.stack([row, column + 1], dim=1)
