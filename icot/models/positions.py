"""Learned position embeddings: their number, their tables, and lengthening them.

GPT-2 and OPT learn an embedding for each position; rotary models (Llama, Phi-3, Mistral) compute
any position and have none.

    GPT-2, 4 positions:  table  0 1 2 3
    OPT, 4 positions:    table  - - 0 1 2 3      its first two rows belong to no position
"""

import logging

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from icot.models.introspection import config_of

log = logging.getLogger(__name__)

KEYS = {"opt": "max_position_embeddings"}  # where it is not n_positions
LENGTHENED = "icot_lengthened"  # the attribute of a table that has new random rows
INIT_STD = 0.02  # of a configuration that does not say it as initializer_range


def positions_key(config: PreTrainedConfig) -> str:
    """The key of a configuration that says how many positions are learned."""
    return KEYS.get(config.model_type, "n_positions")


def learned_positions(config: PreTrainedConfig) -> int | None:
    """The number of learned positions; None for rotary models."""
    positions = getattr(config, positions_key(config), None)
    return int(positions) if positions is not None else None


def position_tables(model: nn.Module) -> list[nn.Embedding]:
    """The learned position embeddings."""
    positions = learned_positions(config_of(model))
    tokens = model.get_input_embeddings()  # type: ignore[operator]
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        and module is not tokens
        and positions is not None
        and module.num_embeddings == positions + rows_before(module)
    ]


def rows_before(table: nn.Embedding) -> int:
    """The rows of a table before that of the first position."""
    return int(getattr(table, "offset", 0))


def replace_rows(table: nn.Embedding, rows: Tensor) -> None:
    """Give a table other rows [n, D]; its class, which may find them in its own way, stays."""
    table.weight = nn.Parameter(rows)
    table.num_embeddings = len(rows)


def lengthened_tables(model: nn.Module) -> list[str]:
    """The names of position embeddings some of which are new: to be trained in any case."""
    return [name for name, module in model.named_modules() if hasattr(module, LENGTHENED)]


def extend_positions(model: PreTrainedModel, positions: int) -> None:
    """Lengthen learned position embeddings to ``positions``, with a warning; new ones are random.

    Rotary models compute any position and do not change.
    """
    available = learned_positions(model.config)
    if available is None or positions <= available:
        return
    for table in position_tables(model):
        new = table.weight.new_empty(positions - available, table.embedding_dim)
        nn.init.normal_(new, std=getattr(model.config, "initializer_range", INIT_STD))
        with torch.no_grad():
            replace_rows(table, torch.cat([table.weight, new]))
        setattr(table, LENGTHENED, True)
    setattr(model.config, positions_key(model.config), positions)
    log.warning(
        "The longest example has %d tokens, the model %d positions: the embeddings of the other "
        "%d positions start from random values and must be learned.",
        positions,
        available,
        positions - available,
    )
