"""The thought emulator: it guesses a teacher's states from the question alone.

A pass over the question stops at the first separator, column f. Before each block l, with z_l the
block's input there (arXiv 2311.01460, section 3.2):

    f_l = MLP_l([z_l ; e_l])            the emulated state
    o_l = LSTM(f_l + g_{l-1})           its state is carried from layer to layer; g_{-1} = 0
    g_l = sum_{j<l} a_j k_j             a = softmax over j of k_j . (Q o_l); g_0 = 0
    k_l = K o_l
    the input of block l at f becomes O [o_l ; g_l]

e_l is the mixture component: a learned vector, or, with M > 1, the softmax of z_l W' / tau over M
components; in training it may be the component that is known to be right. Of the last block only
its input is used, so the block is left out, and the final norm and the output layer with it.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from icot.models.hidden_states import blocks_of, body_of
from icot.models.introspection import config_of


@dataclass(frozen=True)
class Emulated:
    """What an emulator has found for B questions.

    Attributes:
        states: [B, L, D] f_l.
        scores: [B, L, M] z_l W', by which the components are mixed, not divided by tau.
    """

    states: Tensor
    scores: Tensor


class Emulator(nn.Module):
    """A causal LM without its last block, and what guesses a state before each block.

    Args:
        model: its blocks and embeddings are used, and changed by training.
        mixture_size: M, components.
        temperature: tau.

    Attributes:
        config: of the whole model.
    """

    def __init__(self, model: nn.Module, mixture_size: int = 1, temperature: float = 0.05) -> None:
        super().__init__()
        self.config = copy.deepcopy(config_of(model))
        depth, width = self.config.num_hidden_layers, self.config.hidden_size
        if depth < 2:
            raise ValueError("an emulator needs a model of at least two layers")
        self.depth, self.temperature = depth, temperature
        self.trunk = _shorten(model)
        self.maps = nn.ModuleList(mlp(2 * width, width) for _ in range(depth))
        self.components = nn.Embedding(mixture_size, width)
        self.cell = nn.LSTMCell(width, width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.output = nn.Linear(2 * width, width)
        self._walk: _Walk | None = None
        blocks = blocks_of(self.trunk)
        for layer, block in enumerate(blocks):
            block.register_forward_pre_hook(self._before(layer), with_kwargs=True)
        blocks[-1].register_forward_hook(self._after_last)

    def forward(
        self,
        input_ids: Tensor,
        columns: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        gold: Tensor | None = None,
    ) -> Emulated:
        """The states of B questions.

        Args:
            input_ids: [B, T] with the separator at ``columns``; what is right of it plays no part.
            columns: [B] f.
            attention_mask, position_ids: of the model, for prompts that are padded on the left.
            gold: [B, L] components to use; None mixes them.
        """
        self._walk = _Walk(torch.arange(len(columns), device=columns.device), columns, gold)
        try:
            body_of(self.trunk)(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                use_cache=False,
            )
            walk = self._walk
        finally:
            self._walk = None
        return Emulated(torch.stack(walk.states, dim=1), torch.stack(walk.scores, dim=1))

    def _state(self, layer: int, z: Tensor) -> Tensor:
        """f_l from z_l [B, D]."""
        walk = self._walk
        assert walk is not None
        scores = z @ self.components.weight.to(z.dtype).T
        walk.scores.append(scores)
        if walk.gold is not None:
            component = self.components(walk.gold[:, layer])
        else:
            exact = torch.promote_types(scores.dtype, torch.float32)
            shares = (scores.to(exact) / self.temperature).softmax(-1)
            component = shares @ self.components.weight.to(exact)
        state: Tensor = self.maps[layer](torch.cat([z, component.to(z.dtype)], dim=-1))
        walk.states.append(state)
        return state

    def _steer(self, state: Tensor) -> Tensor:
        """The column's next input, O [o_l ; g_l], from f_l."""
        walk = self._walk
        assert walk is not None
        walk.lstm = self.cell(state if walk.context is None else state + walk.context, walk.lstm)
        hidden = walk.lstm[0]
        context = torch.zeros_like(hidden)
        if walk.keys:
            keys = torch.stack(walk.keys, dim=1)  # [B, l, D]
            scores = (keys @ self.query(hidden)[..., None]).squeeze(-1)
            context = (scores.softmax(-1)[:, None] @ keys).squeeze(1)
        walk.keys.append(self.key(hidden))
        walk.context = context
        steered: Tensor = self.output(torch.cat([hidden, context], dim=-1))
        return steered

    def _before(self, layer: int) -> Any:
        def replace(
            block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            if self._walk is None:
                return None
            own = args[0] if args else kwargs["hidden_states"]
            place = (self._walk.rows, self._walk.columns)
            steered = self._steer(self._state(layer, own[place]))
            replaced = torch.index_put(own, place, steered.to(own.dtype))
            if args:
                return (replaced, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": replaced}

        return replace

    def _after_last(self, block: nn.Module, args: Any, output: Any) -> None:
        if self._walk is not None:
            last = output[0] if isinstance(output, tuple) else output
            self._state(self.depth - 1, last[self._walk.rows, self._walk.columns])


@dataclass
class _Walk:
    """What an emulator carries from block to block."""

    rows: Tensor
    columns: Tensor
    gold: Tensor | None
    states: list[Tensor] = field(default_factory=list)
    scores: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)
    context: Tensor | None = None
    lstm: Any = None


def mlp(inputs: int, width: int) -> nn.Sequential:
    """Two linear maps with a ReLU between them, four times as wide (the papers' state maps)."""
    return nn.Sequential(nn.Linear(inputs, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))


def _shorten(model: Any) -> nn.Module:
    """The model without its last block; what comes behind the blocks is not trained."""
    blocks, body = blocks_of(model), body_of(model)
    del blocks[-1]
    config: Any = copy.deepcopy(config_of(model))
    config.num_hidden_layers = len(blocks)
    model.config = body.config = config
    used = [blocks, *(m for m in body.children() if isinstance(m, nn.Embedding))]
    trained = {id(p) for part in used for p in part.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    shortened: nn.Module = model
    return shortened
