"""Reading and replacing what goes into a causal LM's blocks, by hooks on any architecture.

    x1 x2 <eos> y1      tokens
     |  |   v    |      v: put in place of the block's own input, one vector for each block
    x1 x2 <eos> y1

The hooks are registered once and switched by what they hold, so that a compiled or sharded model
sees no change.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from icot.errors import ModelError
from icot.models.introspection import config_of


def body_of(model: nn.Module) -> nn.Module:
    """What a causal LM has below its output layer, with or without adapters."""
    inner: Any = model
    if hasattr(model, "get_base_model"):
        inner = inner.get_base_model()
    body: nn.Module = getattr(inner, getattr(inner, "base_model_prefix", ""), inner)
    return body


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """The blocks of a causal LM, with or without adapters.

    Raises:
        ModelError: it has no single list of as many modules as its configuration has layers.
    """
    body = body_of(model)
    depth = config_of(model).num_hidden_layers
    lists = [m for m in body.children() if isinstance(m, nn.ModuleList) and len(m) == depth]
    if len(lists) != 1:
        raise ModelError(
            f"{type(model).__name__}: its {depth} blocks cannot be told from its other parts, so "
            "hidden states cannot be read or replaced."
        )
    return lists[0]


class BlockInputs:
    """Keeps chosen hidden states of each forward pass; the hooks stay until ``remove``.

    Args:
        model: the causal LM.
        after_last: also keep what comes out of the last block, before the final norm.
    """

    def __init__(self, model: nn.Module, after_last: bool = False) -> None:
        self._columns: Tensor | None = None
        self._kept: list[Tensor] = []
        blocks = blocks_of(model)
        self._hooks = [b.register_forward_pre_hook(self._keep, with_kwargs=True) for b in blocks]
        if after_last:
            self._hooks.append(blocks[-1].register_forward_hook(self._keep_output))

    def remove(self) -> None:
        """Take the hooks off the model."""
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def keep(self, columns: Tensor) -> Iterator[list[Tensor]]:
        """While open, the inputs [B, C, D] of each block at ``columns`` [B, C]."""
        self._columns, self._kept = columns, []
        try:
            yield self._kept
        finally:
            self._columns = None

    def _keep(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._gather(args[0] if args else kwargs["hidden_states"])

    def _keep_output(self, block: nn.Module, args: Any, output: Any) -> None:
        self._gather(output[0] if isinstance(output, tuple) else output)

    def _gather(self, states: Tensor) -> None:
        if self._columns is not None:
            index = self._columns[..., None].expand(-1, -1, states.shape[-1])
            self._kept.append(states.gather(1, index))


class Overwriting:
    """Puts given vectors in place of block inputs; the hooks stay on the model.

    Columns to the left see nothing of it. Register it before the model is compiled.
    """

    def __init__(self, model: nn.Module) -> None:
        self._states: Sequence[Tensor | None] | None = None
        self._places: tuple[Tensor, Tensor] | None = None
        self.depth = len(blocks_of(model))
        for layer, block in enumerate(blocks_of(model)):
            block.register_forward_pre_hook(self._hook(layer), with_kwargs=True)

    @contextmanager
    def put(self, rows: Tensor, columns: Tensor, states: Sequence[Tensor | None]) -> Iterator[None]:
        """While open, a pass has ``states[l]`` [N, D] at ``rows``, ``columns`` [N] of block l.

        Where it is None, the block's input stays.
        """
        self._places, self._states = (rows, columns), states
        try:
            yield
        finally:
            self._places = self._states = None

    def _hook(self, layer: int) -> Any:
        def replace(
            block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            if self._states is None or self._places is None:
                return None
            state = self._states[layer]
            if state is None:
                return None
            own = args[0] if args else kwargs["hidden_states"]
            replaced = torch.index_put(own, self._places, state.to(own.dtype))
            if args:
                return (replaced, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": replaced}

        return replace
