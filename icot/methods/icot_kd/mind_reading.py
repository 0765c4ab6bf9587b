"""The mind-reading student: it answers at once, with a teacher's states in place of its own.

Before block l, column f of its input, where the first separator stands, is replaced by
v_l = MLP_l(t_l), t_l a teacher's state (arXiv 2311.01460, section 3.1). Fed by the teacher, its
accuracy is an upper bound and no result: the teacher has read the chain.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from icot.methods.icot_kd.emulator import mlp
from icot.models.hidden_states import Overwriting
from icot.models.introspection import config_of

# From tokens [B, T], the separators' columns [B], and the model's inputs, to states [B, L, D].
Source = Callable[[Tensor, Tensor, dict[str, Any]], Tensor]


class MindReader(nn.Module):
    """A causal LM, and the maps from a teacher's states to its blocks' inputs.

    Args:
        model: the causal LM.
        eos_token_id: the separator.

    Attributes:
        config: the model's.
        source: where a forward pass over prompts gets its states from; None leaves the model's own
            inputs where they are.
    """

    def __init__(self, model: nn.Module, eos_token_id: int) -> None:
        super().__init__()
        self.config = config_of(model)
        self.model, self.eos_token_id = model, eos_token_id
        width = self.config.hidden_size
        self.maps = nn.ModuleList(mlp(width, width) for _ in range(self.config.num_hidden_layers))
        self._overwriting = Overwriting(model)
        self.source: Source | None = None
        self.teacher: Any = None  # that a predictor reads; no part of the weights

    def vectors(self, states: Tensor) -> list[Tensor]:
        """v_l [B, D] for each layer, from states [B, L, D]."""
        states = states.to(next(self.maps.parameters()).dtype)  # verification may use bf16
        return [of_layer(states[:, layer]) for layer, of_layer in enumerate(self.maps)]

    def reading(
        self, rows: Tensor, columns: Tensor, vectors: Sequence[Tensor]
    ) -> AbstractContextManager[None]:
        """While open, the model has the vectors at ``rows``, ``columns`` [N] of its batch."""
        return self._overwriting.put(rows, columns, vectors)

    def forward(self, input_ids: Tensor, **inputs: Any) -> Any:
        """The causal LM's output; its first pass over prompts reads the states of ``source``."""
        cache = inputs.get("past_key_values")
        if self.source is None or (cache is not None and cache.get_seq_length()):
            return self.model(input_ids=input_ids, **inputs)
        columns = first_separator(input_ids, self.eos_token_id, inputs.get("attention_mask"))
        vectors = self.vectors(self.source(input_ids, columns, inputs))
        rows = torch.arange(len(columns), device=columns.device)
        with self.reading(rows, columns, vectors):
            return self.model(input_ids=input_ids, **inputs)


def first_separator(input_ids: Tensor, eos_token_id: int, mask: Tensor | None) -> Tensor:
    """The columns [B] of the first separators; what the mask leaves out is padding.

    A row's first token is none: a question stands before it. It may be a begin token with the
    separator's id, as OPT's is.
    """
    real = torch.ones_like(input_ids) if mask is None else mask.int()
    found = (input_ids == eos_token_id) & real.bool() & (real.cumsum(dim=1) > 1)
    return found.int().argmax(dim=1)
