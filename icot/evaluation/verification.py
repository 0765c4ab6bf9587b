"""Which tokens of a target greedy decoding is sure to write, by forward passes instead of decoding.

One pass over question and target tells for every token of the target whether it is the most
probable one after the tokens before it. So long, the target is what greedy decoding writes:

    target    3 5 + 0 9 <eos> #### 2 <eos>
    argmax    3 5 + 0 8 <eos> #### 2 <eos>      four tokens are sure, decoding has to tell the rest

Rounding differs between this pass and decoding (another shape of batch, a cache), so a token counts
as sure only where its logit leads by more than rounding can make up for; a narrower lead, a
near-tie, is left to decoding.
"""

from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from icot.data.staged import StagedExamples
from icot.hardware import computes_bf16
from icot.models.loading import config_of
from icot.models.supervised import supervised_logits

CPU_TOKENS, GPU_TOKENS = 4096, 65_536  # of one forward pass
LOGITS = 2**28  # of one forward pass, at the most
# By how much of the largest logit a lead may be off, with a margin. docs/experiments.md has what
# was seen, tests/evaluation/test_verification.py bounds it.
ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.3, torch.float16: 0.1}


@dataclass(frozen=True)
class Verified:
    """What forward passes say of n targets.

    Attributes:
        leading: [n] tokens of each that are sure to be written.
        near_tie: [n] the token behind them leads or trails by no more than rounding.
        correct_tokens: [n] tokens that are the most probable one.
        nll: [n] negative log-likelihood of the whole target.
    """

    leading: NDArray[np.int64]
    near_tie: NDArray[np.bool_]
    correct_tokens: NDArray[np.int64]
    nll: NDArray[np.float64]

    @classmethod
    def nothing(cls, n: int) -> "Verified":
        """Nothing is sure of ``n`` targets."""
        whole = np.zeros(n, dtype=np.int64)
        return cls(whole, np.zeros(n, dtype=np.bool_), whole.copy(), np.zeros(n))


@torch.no_grad()
def verify(model: nn.Module, examples: StagedExamples, screen: bool = True) -> Verified:
    """Verify all targets of ``examples`` with ``model``, in evaluation mode.

    Args:
        screen: where it pays, a pass in bf16 comes first, and only what it leaves open is passed in
            float32. What it accepts is what float32 would write, its own rounding allowed for; the
            likelihood of what it accepts is its own.
    """
    n = len(examples)
    found = Verified.nothing(n)
    rows = np.arange(n)
    if screen and _screening_pays(model):
        with torch.autocast(device_of(model).type, torch.bfloat16):
            _fill(found, model, examples, rows)
        rows = np.flatnonzero(found.leading < examples.target_lengths)
    if len(rows):
        _fill(found, model, examples, rows)
    return found


def _screening_pays(model: nn.Module) -> bool:
    """Whether a pass in bf16 is worth its time before the same in float32."""
    device = device_of(model).type
    in_float32 = next(model.parameters()).dtype == torch.float32
    return in_float32 and not torch.is_autocast_enabled(device) and computes_bf16(device)


def _fill(
    found: Verified, model: nn.Module, examples: StagedExamples, rows: NDArray[np.int64]
) -> None:
    """Fill ``found`` for the examples ``rows``."""
    device = device_of(model)
    for index, on_host in examples.batches(rows, _rows_per_pass(model, examples, device)):
        batch = on_host.to(device)
        logits, targets, places = supervised_logits(model, batch)
        row, column = places.unbind(1)
        nll = F.cross_entropy(logits.float(), targets, reduction="none").double()
        bound = _rounding(logits) * logits.abs().amax(-1).float()
        lead, first = _leads(logits, targets)
        sure, near = lead > bound, lead >= -bound
        stop = batch.lengths.scatter_reduce(0, row[~sure], column[~sure], "amin")
        none = torch.zeros_like(stop)
        found.leading[index] = (stop - batch.cot_start).cpu()
        found.near_tie[index] = none.index_add(0, row, (near & (column == stop[row])).long()).cpu()
        found.correct_tokens[index] = none.index_add(0, row, first.long()).cpu()
        found.nll[index] = none.double().index_add(0, row, nll).cpu()


def _rows_per_pass(model: nn.Module, examples: StagedExamples, device: torch.device) -> int:
    """As many as keep a CPU's caches warm or a GPU busy, with logits that fit into memory."""
    most = CPU_TOKENS if device.type == "cpu" else GPU_TOKENS
    tokens = min(most, LOGITS // int(config_of(model).vocab_size))
    return max(1, tokens // int(examples.lengths.max()))


def _rounding(logits: Tensor) -> float:
    coarse = torch.get_float32_matmul_precision() != "highest" and logits.dtype == torch.float32
    return ROUNDING[torch.bfloat16 if coarse else logits.dtype]


def _leads(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """By how much each target's logit leads all others [N], and whether it is the argmax [N].

    Overwrites ``logits`` [N, V].
    """
    own = logits.gather(1, targets[:, None])
    other, index = logits.scatter_(1, targets[:, None], -inf).max(-1)
    lead = own[:, 0].float() - other.float()
    return lead, (lead > 0) | ((lead == 0) & (targets < index))  # argmax takes the first


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are."""
    return next(model.parameters()).device
