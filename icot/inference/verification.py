"""Finding the tokens of a target that greedy decoding writes, with forward passes, not decoding.

One pass over question and target shows for every token of the target whether it is the most
probable one after the tokens before it. Up to the first that is not, greedy decoding writes the
target:

    target    3 5 + 0 9 <eos> #### 2 <eos>
    argmax    3 5 + 0 8 <eos> #### 2 <eos>      four tokens are known, the rest must be decoded

This pass and decoding round differently (batch shape, cache), so a token counts as known only if
its logit leads by more than rounding. A smaller lead is a near-tie and is left to decoding.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from math import inf
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from icot.data.staged import StagedExamples
from icot.models.forward import supervised_logits
from icot.models.introspection import config_of, device_of
from icot.system.hardware import computes_bf16

CPU_TOKENS, GPU_TOKENS = 4096, 65_536  # in one forward pass
LOGITS = 2**28  # the most in one forward pass
# The possible difference of a lead between one pass and decoding in the same precision, as a share
# of the largest logit: three times the largest measured one (docs/experiments.md,
# tests/inference/test_verification.py).
ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}
# The same between bf16 and the requested precision. Leads above SCREENED never differed in
# measurements; below it, the difference is measured, and SAFETY times that is allowed, at least
# LEAST.
SCREENED, SAFETY, LEAST = 0.4, 2.0, 0.02
MAX_WRONG_SHARE = 0.7  # if more targets are wrong, screening the rest costs more than it saves


@dataclass(frozen=True)
class Verified:
    """The result of forward passes over n targets.

    Attributes:
        leading: [n] known tokens, from the start of each target.
        near_tie: [n] whether the next token leads or trails by no more than rounding.
        least: [n] the smallest lead in each target, as a share of the largest logit there; -inf if
            the target has not been passed.
        correct_tokens: [n] tokens that are the most probable one.
        nll: [n] negative log-likelihood of the whole target.
    """

    leading: NDArray[np.int64]
    near_tie: NDArray[np.bool_]
    least: NDArray[np.float64]
    correct_tokens: NDArray[np.int64]
    nll: NDArray[np.float64]

    @classmethod
    def empty(cls, n: int) -> "Verified":
        """The start: none of ``n`` targets has been passed."""
        leading, correct_tokens = np.zeros((2, n), dtype=np.int64)
        near_tie, least = np.zeros(n, dtype=np.bool_), np.full(n, -inf)
        return cls(leading, near_tie, least, correct_tokens, np.zeros(n))

    def put(self, index: NDArray[np.int64], other: "Verified") -> None:
        """Copy the results of ``other`` for the targets ``index``."""
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(other, field.name)


@torch.no_grad()
def verify(model: nn.Module, examples: StagedExamples, screen: bool = True) -> Verified:
    """Verify all targets of ``examples`` with ``model``, in evaluation mode.

    Args:
        screen: if the hardware supports bf16 and the weights are float32, pass all targets in bf16
            first, and only those with small leads again in the caller's precision. The likelihood
            of the others is that of the first pass.
    """
    found = Verified.empty(len(examples))
    if not screen or not _screening_pays(model):
        _pass(model, examples, np.arange(len(examples)), found)
        return found
    again = _screen(model, examples, found)
    allowed = inf  # until a screened row has been passed again
    size = _rows_per_pass(model, examples)
    for start in range(0, len(again), size):
        rows = again[start : start + size]
        if found.least[rows[0]] > allowed:
            found.leading[again[start:]] = examples.target_lengths[again[start:]]
            break
        screened = rows[np.isfinite(found.least[rows])]
        before = found.least[screened].copy()
        _pass(model, examples, rows, found)
        if len(screened):
            difference = SAFETY * float(np.abs(before - found.least[screened]).max())
            allowed = max(difference, LEAST if allowed == inf else allowed)
    return found


def _screen(model: nn.Module, examples: StagedExamples, found: Verified) -> NDArray[np.int64]:
    """Pass targets in bf16; returns those that may need another pass, the smallest lead first.

    If most of the first part are wrong, the rest is not passed and comes first.
    """
    weights = {name: p.bfloat16() for name, p in model.named_parameters()}

    def in_bf16(**arguments: Any) -> Any:
        return functional_call(model, weights, kwargs=arguments)

    rows = np.arange(len(examples))
    size = _rows_per_pass(model, examples)
    with torch.autocast(device_of(model).type, enabled=False):
        _pass(model, examples, rows[:size], found, in_bf16)
        if (found.least[:size] <= 0).mean() > MAX_WRONG_SHARE:
            return rows[np.argsort(found.least, kind="stable")]
        _pass(model, examples, rows[size:], found, in_bf16)
    unsure = np.flatnonzero(found.least <= SCREENED)
    sure = np.flatnonzero(found.least > SCREENED)
    found.leading[sure] = examples.target_lengths[sure]
    return unsure[np.argsort(found.least[unsure], kind="stable")]


def _screening_pays(model: nn.Module) -> bool:
    """Whether a pass in bf16 is faster than one in the caller's precision."""
    in_float32 = next(model.parameters()).dtype == torch.float32
    return in_float32 and computes_bf16(device_of(model).type)


def _pass(
    model: nn.Module,
    examples: StagedExamples,
    rows: NDArray[np.int64],
    found: Verified,
    forward: Callable[..., Any] | None = None,
) -> None:
    """Fill ``found`` for the examples ``rows`` with ``forward``, by default the model."""
    device = device_of(model)
    for index, on_host in examples.batches(rows, _rows_per_pass(model, examples)):
        batch = on_host.to(device)
        logits, targets, places = supervised_logits(forward or model, batch)
        row, column = places.unbind(1)
        nll = F.cross_entropy(logits.float(), targets, reduction="none").double()
        scale = logits.abs().amax(-1).float()
        rounding = _rounding(logits)
        lead, is_argmax = _leads(logits, targets)
        lead = lead / scale
        sure, near = lead > rounding, lead >= -rounding
        stop = batch.lengths.scatter_reduce(0, row[~sure], column[~sure], "amin")
        none = torch.zeros_like(stop)
        near_tie = none.index_add(0, row, (near & (column == stop[row])).long())
        least = torch.full_like(stop, inf, dtype=lead.dtype).scatter_reduce(0, row, lead, "amin")
        found.leading[index] = (stop - batch.cot_start).cpu()
        found.near_tie[index] = near_tie.cpu()
        found.least[index] = least.cpu()
        found.correct_tokens[index] = none.index_add(0, row, is_argmax.long()).cpu()
        found.nll[index] = none.double().index_add(0, row, nll).cpu()


def _rows_per_pass(model: nn.Module, examples: StagedExamples) -> int:
    """Rows that fit a CPU's caches or fill a GPU, with logits that fit into memory."""
    most = CPU_TOKENS if device_of(model).type == "cpu" else GPU_TOKENS
    tokens = min(most, LOGITS // int(config_of(model).vocab_size))
    return max(1, tokens // int(examples.lengths.max()))


def _rounding(logits: Tensor) -> float:
    coarse = torch.get_float32_matmul_precision() != "highest" and logits.dtype == torch.float32
    return ROUNDING[torch.bfloat16 if coarse else logits.dtype]


def _leads(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The lead of each target's logit over all others [N], and whether it is the argmax [N].

    Overwrites ``logits`` [N, V].
    """
    own = logits.gather(1, targets[:, None])
    other, index = logits.scatter_(1, targets[:, None], -inf).max(-1)
    lead = own[:, 0].float() - other.float()
    return lead, (lead > 0) | ((lead == 0) & (targets < index))  # argmax takes the first of equals
