"""FSDP2: weights, gradients and moments sharded over the devices, gathered block by block.

Checkpoints have the format of a single device, so that every other command can read them.
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
    """Lightning's FSDP2 strategy over all devices, with checkpoints of a single device's format."""

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Use all devices for data parallelism, none for tensor parallelism."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()

    @property
    def lightning_restore_optimizer(self) -> bool:
        """``load_optimizer_state_dict`` restores it."""
        return True

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state on rank zero, an empty one on other ranks.

        This also works after a reset, when torch's own function would make an update to create a
        state.
        """
        inner = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer

        def gather(part: DTensor) -> Tensor | None:
            whole = part.full_tensor()  # all ranks take part
            return whole.cpu() if self.is_global_zero else None

        state: dict[str, Any] = tree_map_only(DTensor, gather, inner.state_dict())
        return state if self.is_global_zero else {}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> Any:
        """Read the file on each rank."""
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Load each rank's part of the weights."""
        assert self.lightning_module is not None
        options = StateDictOptions(full_state_dict=True, strict=strict)
        set_model_state_dict(self.lightning_module, checkpoint["state_dict"], options=options)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load each rank's part of the moments."""
        for optimizer, whole in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            numbers = (n for group in whole["param_groups"] for n in group["params"])
            parameters = (p for group in optimizer.param_groups for p in group["params"])
            state = dict(whole["state"])
            for number, parameter in zip(numbers, parameters, strict=True):
                if number in state:
                    state[number] = {k: _shard_like(parameter, v) for k, v in state[number].items()}
            optimizer.load_state_dict({**whole, "state": state})


def _shard_like(parameter: Tensor, value: Any) -> Any:
    """Shard a value of the optimizer's state like its parameter if it has the same shape."""
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor):
        return value
    if value.shape != parameter.shape:
        return value
    return distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )


def shard(module: nn.Module, mesh: DeviceMesh, forward_methods: tuple[str, ...]) -> None:
    """Shard a module in place: each of its model's blocks by itself, the rest together.

    Args:
        module: contains a Hugging Face model.
        mesh: of the devices, one-dimensional.
        forward_methods: the methods of ``module`` that use weights.
    """
    names = {name for m in module.modules() for name in getattr(m, "_no_split_modules", None) or ()}
    for block in [m for m in module.modules() if type(m).__name__ in names]:
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    for name in forward_methods:
        register_fsdp_forward_method(module, name)


def is_sharded(module: nn.Module) -> bool:
    """Whether ``shard`` has sharded the module."""
    return isinstance(module, FSDPModule)


def with_whole_weights(
    module: nn.Module, forward: Callable[[Callable[[], T]], T], work: Callable[[], T]
) -> T:
    """Run ``work`` while each device has all weights of a module; returns its result.

    Devices do not wait for each other then, so they may make different numbers of passes.

    Args:
        module: its weights may be sharded.
        forward: one of its forward methods, which calls its argument.
        work: uses the weights.
    """
    if not isinstance(module, FSDPModule):
        return work()
    result = forward(lambda: _with_whole_blocks(module, work))
    module.reshard()  # the weights outside of blocks
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
    """This device's part of a tensor; changing it changes the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
