"""Learned position embeddings: their number, their tables, and lengthening them.

GPT-2 learns an embedding for each position; rotary models (Llama, Phi-3, Mistral) compute any
position and have none.
"""

import logging

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from icot.models.introspection import config_of

log = logging.getLogger(__name__)


class LengthenedPositions(nn.Embedding):
    """Learned position embeddings, some of them new and random: to be trained in any case."""


def learned_positions(config: PreTrainedConfig) -> int | None:
    """The number of learned positions; None for rotary models."""
    positions = getattr(config, "n_positions", None)
    return int(positions) if positions is not None else None


def position_tables(model: nn.Module) -> list[tuple[nn.Module, str, nn.Embedding]]:
    """The learned position embeddings: the module with each, its name there, the table."""
    positions = learned_positions(config_of(model))
    tokens = model.get_input_embeddings()  # type: ignore[operator]
    return [
        (module, name, child)
        for module in model.modules()
        for name, child in module.named_children()
        if isinstance(child, nn.Embedding)
        and child.num_embeddings == positions
        and child is not tokens
    ]


def extend_positions(model: PreTrainedModel, positions: int) -> None:
    """Lengthen learned position embeddings to ``positions``, with a warning; new ones are random.

    Rotary models compute any position and do not change.
    """
    available = learned_positions(model.config)
    if available is None or positions <= available:
        return
    for module, name, table in position_tables(model):
        longer = LengthenedPositions(
            positions, table.embedding_dim, dtype=table.weight.dtype, device=table.weight.device
        )
        nn.init.normal_(longer.weight, std=model.config.initializer_range)
        with torch.no_grad():
            longer.weight[:available] = table.weight
        setattr(module, name, longer)
    model.config.n_positions = positions
    log.warning(
        "The longest example has %d tokens, the model %d positions: the embeddings of the other "
        "%d positions start from random values and must be learned.",
        positions,
        available,
        positions - available,
    )
