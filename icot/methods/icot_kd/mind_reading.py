"""The mind-reading student: it answers at once, with a teacher's states in place of its own.

Before block l, column f of its input, where the first separator stands, is replaced by
v_l = MLP_l(t_l), t_l a teacher's state (arXiv 2311.01460, section 3.1). Fed by the teacher, its
accuracy is an upper bound and no result: the teacher has read the chain.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from torch import Tensor, nn

from icot.methods.icot_kd.emulator import mlp
from icot.models.hidden_states import Overwriting
from icot.models.introspection import config_of


class MindReader(nn.Module):
    """A causal LM, and the maps from a teacher's states to its blocks' inputs.

    Args:
        model: the causal LM.

    Attributes:
        config: the model's.
        has_blocks: Muon takes the matrices of the model's blocks.
    """

    has_blocks: ClassVar[bool] = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.config = config_of(model)
        self.model = model
        width = self.config.hidden_size
        self.maps = nn.ModuleList(mlp(width, width) for _ in range(self.config.num_hidden_layers))
        self._overwriting = Overwriting(model)

    def vectors(self, states: Tensor) -> list[Tensor]:
        """v_l [B, D] for each layer, from states [B, L, D]."""
        return [of_layer(states[:, layer]) for layer, of_layer in enumerate(self.maps)]

    def reading(
        self, rows: Tensor, columns: Tensor, vectors: Sequence[Tensor]
    ) -> AbstractContextManager[None]:
        """While open, the model has the vectors at ``rows``, ``columns`` [N] of its batch."""
        return self._overwriting.put(rows, columns, vectors)

    def forward(self, **inputs: Any) -> Any:
        """The model's own forward pass."""
        return self.model(**inputs)
