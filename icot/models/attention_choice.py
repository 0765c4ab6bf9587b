"""Choosing the fastest implementation of attention by measurement.

On a CPU the fused kernel is faster at some lengths and precisions, and several times slower at
others.
"""

import copy
from contextlib import suppress
from math import isqrt
from time import perf_counter
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from icot.models.fast_layers import use_fast_layers
from icot.models.introspection import config_of

IMPLEMENTATIONS = ("sdpa", "eager")
REPEATS = 3
SCORES = 2**26  # most attention scores: larger than a cache, small enough for the memory
MAX_SLOWDOWN = 1.5  # over the fastest; a slower one is not timed again


def fastest_attention(
    model: PreTrainedModel, rows: int, columns: int, autocast: torch.dtype | None = None
) -> str:
    """The implementation that trains one layer of a model's shape fastest, on the CPU.

    Args:
        model: has the shape.
        rows: of a batch; fewer are used if there would be too many scores.
        columns: of a batch; fewer are used if one row would have too many scores.
        autocast: the type to compute in.
    """
    shape = copy.deepcopy(config_of(model))
    shape.num_hidden_layers, shape.vocab_size = 1, 64
    columns = min(columns, isqrt(SCORES // shape.num_attention_heads))  # one row must fit
    most = SCORES // (shape.num_attention_heads * columns**2)
    with torch.random.fork_rng(devices=[]):
        tokens = torch.randint(0, 64, (max(1, min(rows, most)), columns))
        layers = {}
        for name in IMPLEMENTATIONS:
            with suppress(ValueError):  # the architecture may not have it
                own = copy.deepcopy(shape)  # a layer reads its configuration in every pass
                layers[name] = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                    own, attn_implementation=name, dtype=model.dtype
                ).train()
                use_fast_layers(layers[name])
        for layer in layers.values():
            _seconds(layer, tokens[:1], autocast)  # warm-up
        seconds = dict.fromkeys(layers, float("inf"))
        for _ in range(REPEATS):
            least = min(seconds.values())
            for name, layer in layers.items():
                if seconds[name] <= MAX_SLOWDOWN * least:
                    seconds[name] = min(seconds[name], _seconds(layer, tokens, autocast))
    return min(seconds, key=lambda name: seconds[name])


def _seconds(layer: Any, tokens: torch.Tensor, autocast: torch.dtype | None) -> float:
    """Seconds of a forward and backward pass."""
    begun = perf_counter()
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        loss = layer(input_ids=tokens, use_cache=False).logits.float().mean()
    loss.backward()
    return perf_counter() - begun
