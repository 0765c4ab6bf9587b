"""Which implementation of attention is the quickest: measured, for it depends on the machine.

On a CPU the fused kernel wins at some lengths and precisions and loses by several times at others.
"""

import copy
from contextlib import suppress
from time import perf_counter

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from icot.models.elementwise import quicken
from icot.models.loading import config_of

IMPLEMENTATIONS = ("sdpa", "eager")
ROWS, REPEATS = 8, 3


def quickest_attention(
    model: PreTrainedModel, rows: int, columns: int, autocast: torch.dtype | None = None
) -> str:
    """The implementation that trains one layer of a model's shape in the least time, on the CPU.

    Args:
        model: gives the shape.
        rows: of a batch; more than eight are not tried.
        columns: of a batch.
        autocast: computes in this type.
    """
    shape = copy.deepcopy(config_of(model))
    shape.num_hidden_layers, shape.vocab_size = 1, 64
    with torch.random.fork_rng(devices=[]):
        tokens = torch.randint(0, 64, (min(rows, ROWS), columns))
        layers = {}
        for name in IMPLEMENTATIONS:
            with suppress(ValueError):  # an architecture that has none of this name
                layers[name] = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                    shape, attn_implementation=name, dtype=model.dtype
                ).train()
                quicken(layers[name])
        seconds = dict.fromkeys(layers, float("inf"))
        for _ in range(1 + REPEATS):  # the least is not the first, which warms up
            for name, layer in layers.items():
                begun = perf_counter()
                with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
                    loss = layer(input_ids=tokens, use_cache=False).logits.float().mean()
                loss.backward()
                seconds[name] = min(seconds[name], perf_counter() - begun)
    return min(seconds, key=lambda name: seconds[name])
