"""The attention of each layer and head over one question's whole correct sequence."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from icot.data.staged import StagedExamples
from icot.errors import ModelError, first_sentence
from icot.models.introspection import device_of


@dataclass(frozen=True)
class Attention:
    """Attention weights.

    Attributes:
        weights: [L, H, T, T] from a token (third axis) to those before it (fourth).
        tokens: [T] token ids.
    """

    weights: NDArray[np.float32]
    tokens: list[int]


@torch.no_grad()
def attend(model: nn.Module, examples: StagedExamples, index: int) -> Attention:
    """The attention of a model to the example ``index``, counted within ``examples``.

    The model computes attention step by step (``eager``) from then on: fused kernels keep no
    weights.

    Raises:
        ModelError: the architecture has no such implementation.
    """
    causal_lm: Any = model
    batch = examples.batch(np.array([index])).to(device_of(model))
    try:
        causal_lm.set_attn_implementation("eager")
    except ValueError as error:
        raise ModelError(
            f"attention maps need eager attention, which {type(model).__name__} does not have "
            f"({first_sentence(error)}). Set attention=null."
        ) from None
    output = causal_lm(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        use_cache=False,
        output_attentions=True,
    )
    weights = torch.stack([w[0] for w in output.attentions]).float().cpu().numpy()
    return Attention(weights, batch.input_ids[0].tolist())
