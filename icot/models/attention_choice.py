"""Which implementation of attention is the quickest: measured, for it depends on the machine.

On a CPU the fused kernel wins at some lengths and precisions and loses by several times at others.
"""

import copy
from contextlib import suppress
from time import perf_counter
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from icot.models.fast_layers import use_fast_layers
from icot.models.introspection import config_of

IMPLEMENTATIONS = ("sdpa", "eager")
REPEATS = 3
SCORES = 2**26  # numbers in a matrix of scores, at the most: beyond a cache, within the memory
HOPELESS = 1.5  # times the least seconds; not tried again


def fastest_attention(
    model: PreTrainedModel, rows: int, columns: int, autocast: torch.dtype | None = None
) -> str:
    """The implementation that trains one layer of a model's shape in the least time, on the CPU.

    Args:
        model: gives the shape.
        rows: of a batch; fewer are tried where their scores would be too many.
        columns: of a batch.
        autocast: computes in this type.
    """
    shape = copy.deepcopy(config_of(model))
    shape.num_hidden_layers, shape.vocab_size = 1, 64
    most = SCORES // (shape.num_attention_heads * columns**2)
    with torch.random.fork_rng(devices=[]):
        tokens = torch.randint(0, 64, (max(1, min(rows, most)), columns))
        layers = {}
        for name in IMPLEMENTATIONS:
            with suppress(ValueError):  # an architecture that has none of this name
                own = copy.deepcopy(shape)  # a layer asks its configuration in every pass
                layers[name] = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                    own, attn_implementation=name, dtype=model.dtype
                ).train()
                use_fast_layers(layers[name])
        for layer in layers.values():
            _seconds(layer, tokens[:1], autocast)  # the first pass prepares what others find
        seconds = dict.fromkeys(layers, float("inf"))
        for _ in range(REPEATS):
            least = min(seconds.values())
            for name, layer in layers.items():
                if seconds[name] <= HOPELESS * least:
                    seconds[name] = min(seconds[name], _seconds(layer, tokens, autocast))
    return min(seconds, key=lambda name: seconds[name])


def _seconds(layer: Any, tokens: torch.Tensor, autocast: torch.dtype | None) -> float:
    """Of a pass forwards and backwards."""
    begun = perf_counter()
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        loss = layer(input_ids=tokens, use_cache=False).logits.float().mean()
    loss.backward()
    return perf_counter() - begun
