"""FSDP2: weights, gradients and moments split over the devices, gathered block by block.

A checkpoint is the same whole file that one device writes, so that every other command reads it.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

T = TypeVar("T")


class FullyShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy over all devices as one group, with checkpoints like one device's."""

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """All devices share the weights; none shares a product."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()

    @property
    def lightning_restore_optimizer(self) -> bool:
        """By ``load_optimizer_state_dict``."""
        return True

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state on the first rank, as one device has it, and an empty one elsewhere.

        Also right after a reset, where torch's own collector would make an update to have a state.
        """
        inner = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer

        def gathered(part: DTensor) -> Tensor | None:
            whole = part.full_tensor()  # all ranks take part
            return whole.cpu() if self.is_global_zero else None

        state: dict[str, Any] = tree_map_only(DTensor, gathered, inner.state_dict())
        return state if self.is_global_zero else {}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> Any:
        """The file, read by each rank."""
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Each rank takes its part of the weights."""
        assert self.lightning_module is not None
        options = StateDictOptions(full_state_dict=True, strict=strict)
        set_model_state_dict(self.lightning_module, checkpoint["state_dict"], options=options)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Each rank takes its part of the moments."""
        for optimizer, whole in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            numbers = (n for group in whole["param_groups"] for n in group["params"])
            parameters = (p for group in optimizer.param_groups for p in group["params"])
            state = dict(whole["state"])
            for number, parameter in zip(numbers, parameters, strict=True):
                if number in state:
                    state[number] = {k: _like(parameter, v) for k, v in state[number].items()}
            optimizer.load_state_dict({**whole, "state": state})


def _like(parameter: Tensor, value: Any) -> Any:
    """A value of an optimizer's state, split as its parameter where it has the same shape."""
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor):
        return value
    if value.shape != parameter.shape:
        return value
    return distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )


def shard(module: nn.Module, mesh: DeviceMesh, forward_methods: tuple[str, ...]) -> None:
    """Split a module in place: each of its model's blocks by itself, the rest together.

    Args:
        module: holds a Hugging Face model.
        mesh: one-dimensional, of the devices.
        forward_methods: of ``module``, those that use weights.
    """
    names = {name for m in module.modules() for name in getattr(m, "_no_split_modules", None) or ()}
    for block in [m for m in module.modules() if type(m).__name__ in names]:
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    for name in forward_methods:
        register_fsdp_forward_method(module, name)


def is_sharded(module: nn.Module) -> bool:
    """Whether ``shard`` has split it."""
    return isinstance(module, FSDPModule)


def with_whole_weights(
    module: nn.Module, forward: Callable[[Callable[[], T]], T], work: Callable[[], T]
) -> T:
    """What ``work`` returns, run while each device has all weights of a module.

    No device then waits for another, so that each may make passes of its own.

    Args:
        module: whose weights may be split.
        forward: one of its forward methods, which calls what it is given.
        work: uses the weights.
    """
    if not isinstance(module, FSDPModule):
        return work()
    result = forward(lambda: _with_whole_blocks(module, work))
    module.reshard()  # FSDP leaves to itself what is in no block
    return result


def _with_whole_blocks(module: nn.Module, work: Callable[[], T]) -> T:
    blocks = [m for name, m in module.named_modules() if name and isinstance(m, FSDPModule)]
    for block in blocks:
        block.unshard()
        block.set_reshard_after_forward(False, recurse=False)
    try:
        return work()
    finally:
        for block in blocks:
            block.set_reshard_after_forward(True, recurse=False)
            block.reshard()


def own_part(tensor: Tensor) -> Tensor:
    """What of a tensor lies on this device; changing it changes the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
