"""A simulated GPU: the CPU computes, and using tensors of two devices together is an error.

    with PretendedGPU() as gpu:
        model.to("cuda:0")
        model(ids)                     RuntimeError: Expected all tensors to be on the same device
        int(model(ids.to("cuda:0")))
    gpu.synchronisations               ["item in test_it"]

The device of a tensor is an attribute of its storage, so views, parameters and gradients share it,
and autograd works as usual. A ``TorchDispatchMode``, below autograd, checks that the tensors of
each kernel are on one device, with CUDA's exceptions, and puts its results there. A
``TorchFunctionMode``, above autograd, handles calls that name or return a device. Queries for the
hardware are answered as for one GPU with bf16, so that libraries choose as they would there.

Not simulated: CUDA's kernels (their results, their gaps, their speed), streams, generators and
graphs, several GPUs, and worker processes of a data loader with pinned memory. Autocast uses the
CPU's lists of operations.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
TORCH = Path(torch.__file__).parent
aten = torch.ops.aten
# Kernels that take tensors of any two devices, or a number on the CPU beside tensors on a GPU.
BETWEEN_DEVICES = {aten.copy_, aten._foreach_copy_, aten._to_copy}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._unsafe_index}
TAKING_A_NUMBER = {aten.fill, aten.fill_, aten.masked_fill, aten.masked_fill_}
# Kernels whose result's size, or whose result itself, the host has to wait for.
WAITING = {
    aten._local_scalar_dense: "item",
    aten.nonzero: "nonzero",
    aten.masked_select: "masked_select",
    aten.equal: "equal",
    aten._unique2: "unique",
    aten.unique_dim: "unique",
    aten.unique_consecutive: "unique",
    aten.bincount: "bincount",
    aten.multinomial: "multinomial",
}


def tensors_in(value: Any) -> Iterator[Tensor]:
    """What a call is given or returns, without its structure."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def device_of(tensor: Tensor) -> torch.device:
    """Where a tensor pretends to be."""
    with torch._C.DisableTorchFunction():
        return getattr(tensor.untyped_storage(), "pretended", CPU)


def put(tensors: Any, device: torch.device, only_new: bool = False) -> None:
    """Let tensors, in whatever structure, be on ``device``."""
    with torch._C.DisableTorchFunction():
        for tensor in tensors_in(tensors):
            storage: Any = tensor.untyped_storage()
            if not (only_new and hasattr(storage, "pretended")):
                storage.pretended = device


class PretendedGPU:
    """Use as a context; within it there is one GPU, ``cuda:0``.

    Attributes:
        synchronisations: each with the innermost function outside torch:
            "item in configure_gradient_clipping".
        seeds: of the GPU's generator.
    """

    def __init__(self) -> None:
        self.synchronisations: list[str] = []
        self.seeds: list[int] = []
        self.calls, self.kernels = _Calls(self), _Kernels(self)
        self.home = CPU  # of a tensor that a call makes from none
        self._open = ExitStack()

    def __enter__(self) -> "PretendedGPU":
        for where, answers in self._hardware().items():
            for name, answer in answers.items():
                self._open.enter_context(patch.object(where, name, answer))
        self._open.enter_context(self.kernels)
        self._open.enter_context(self.calls)
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.close()

    def wait(self, what: str) -> None:
        """Note that the host waits, and where."""
        frame = sys._getframe(1)
        while frame.f_back is not None:
            path = Path(frame.f_code.co_filename)
            if path != Path(__file__) and TORCH not in path.parents:
                break
            frame = frame.f_back
        self.synchronisations.append(f"{what} in {frame.f_code.co_name}")

    @contextmanager
    def at_home_on(self, device: torch.device) -> Iterator[None]:
        """What C++ makes from nothing meanwhile, it makes on ``device``."""
        before, self.home = self.home, device
        try:
            yield
        finally:
            self.home = before

    def _hardware(self) -> dict[Any, dict[str, Any]]:
        def for_both(setter: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
            def set_both(kind: str, value: Any) -> None:
                setter(kind, value)
                if kind == "cuda":
                    setter("cpu", value)  # which computes

            return set_both

        run_backward = torch.autograd._engine_run_backward

        def run_watched(*args: Any, **kwargs: Any) -> Any:
            with self.calls:  # the backward passes of Python functions are called in it
                return run_backward(*args, **kwargs)

        group = torch._C._group_tensors_by_device_and_dtype

        def group_as_pretended(*args: Any) -> dict[Any, Any]:
            groups = group(*args).items()
            return {(device_of(next(tensors_in(g[0]))), kind): g for (_, kind), g in groups}

        return {
            torch.autograd: {"_engine_run_backward": run_watched},
            torch._C: {"_group_tensors_by_device_and_dtype": group_as_pretended},
            torch.cuda: {
                "is_available": lambda: True,
                "device_count": lambda: 1,
                "current_device": lambda: 0,
                "set_device": lambda device: None,
                "is_bf16_supported": lambda including_emulation=True: True,
                "get_device_name": lambda device=None: "a pretended GPU",
                "get_device_capability": lambda device=None: (9, 0),
                "manual_seed": self.seeds.append,
                "manual_seed_all": self.seeds.append,
                "synchronize": lambda device=None: self.wait("synchronize"),
                "empty_cache": lambda: None,
                "reset_peak_memory_stats": lambda device=None: None,
                "max_memory_allocated": lambda device=None: 0,
            },
            torch.accelerator: {
                "is_available": lambda: True,
                "current_accelerator": lambda check_available=False: GPU,
                "current_device_index": lambda: 0,
                "current_stream": lambda device=None: SimpleNamespace(is_capturing=lambda: False),
            },
            torch: {
                name: for_both(getattr(torch, name))
                for name in ("set_autocast_enabled", "set_autocast_dtype")
            },
        }


class _Calls(TorchFunctionMode):
    """Whatever tells a device, names one, or carries a tensor from one to another."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """The call, or what answers it."""
        kwargs = dict(kwargs or {})
        if func in ANSWERED:
            return ANSWERED[func](self.gpu, *args, **kwargs)
        named = kwargs.pop("device", None)
        first = next(tensors_in((args, kwargs)), None)
        home = CPU if first is None else device_of(first)
        if named is not None:
            home = _device(named)
            if func in (torch.tensor, torch.as_tensor) and home == GPU:
                self.gpu.wait("copy to the GPU")
        with self.gpu.at_home_on(home):
            result = func(*args, **kwargs)
        put(result, home, only_new=named is None)
        return result


class _Kernels(TorchDispatchMode):
    """Whether what a kernel is given is on one device; what it makes is there, too."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a kernel."""
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():
            given = list(tensors_in((args, kwargs)))
            device = common_device(func, args, given) if given else self.gpu.home
            if waits_for := _waits_for(func, args, kwargs, device):
                self.gpu.wait(waits_for)
            result = func(*args, **kwargs)
        put(result, device, only_new=True)
        return result


def common_device(func: Any, args: tuple[Any, ...], given: list[Tensor]) -> torch.device:
    """Where a kernel computes.

    Args:
        func: the kernel.
        args: of it.
        given: the tensors among all that it is given, at least one.

    Raises:
        RuntimeError: it would not, on a GPU.
    """
    devices = [device_of(t) for t in given]
    kernel = func.overloadpacket
    if len(set(devices)) == 1 or kernel in BETWEEN_DEVICES:
        return devices[0]
    numbers = [t.dim() == 0 and d == CPU for t, d in zip(given, devices, strict=True)]
    if kernel in INDEXING:  # of a tensor on the GPU by indices that are still on the CPU
        values = [device_of(t) == GPU or t.dim() == 0 for t in args[2:3]]
        fits = devices[0] == GPU and all(values)
    elif kernel in TAKING_A_NUMBER or (
        torch.Tag.pointwise in func.tags and not func.name().startswith("aten::_foreach")
    ):
        changed = func._schema.is_mutable and numbers[0]
        fits = not changed and all(n or d == GPU for n, d in zip(numbers, devices, strict=True))
    else:
        fits = False
    if not fits:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"cuda:0 and cpu! (in {func.name()})"
        )
    return GPU


def _waits_for(func: Any, args: Any, kwargs: Any, device: torch.device) -> str | None:
    """Why the host waits for the GPU, if it does."""
    kernel = func.overloadpacket
    if kernel in (aten.copy_, aten._foreach_copy_):
        return _copy_waits(next(tensors_in(args[1])), device, bool(args[2:] or kwargs))
    if device == CPU:
        return None
    if kernel in INDEXING and any(t is not None and t.dtype == torch.bool for t in args[1]):
        by_number = len(args) > 2 and args[2].dim() == 0 and device_of(args[2]) == CPU
        return None if by_number else "index by a mask"
    if kernel is aten.repeat_interleave and kwargs.get("output_size") is None:
        return "repeat_interleave"
    return WAITING.get(kernel)


def _copy_waits(source: Tensor, target: torch.device, non_blocking: bool) -> str | None:
    if device_of(source) == target:
        return None
    if target == CPU:
        return "copy to the CPU"
    pinned = hasattr(source.untyped_storage(), "pinned")
    return None if pinned and non_blocking else "copy to the GPU"


def _device(named: Any) -> torch.device:
    """One of the two; transformers' models without memory (meta) are made on the CPU."""
    kind = torch.device("cuda", named) if isinstance(named, int) else torch.device(named)
    assert kind.type in ("cpu", "cuda", "meta"), kind
    return GPU if kind.type == "cuda" else CPU


def _to(gpu: PretendedGPU, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``Tensor.to``, in all its forms."""
    if args and isinstance(args[0], Tensor):
        target, dtype, non_blocking = device_of(args[0]), args[0].dtype, bool(args[1:])
    else:
        copy = kwargs.pop("copy", False)
        named, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
        target = device_of(tensor) if named is None else _device(named)
        if copy and target == device_of(tensor):
            return tensor.to(dtype=dtype or tensor.dtype, copy=True)
    return _moved(gpu, tensor, target, dtype, non_blocking)


def _moved(
    gpu: PretendedGPU,
    tensor: Tensor,
    target: torch.device,
    dtype: torch.dtype | None = None,
    non_blocking: bool = False,
) -> Tensor:
    dtype = dtype or tensor.dtype
    if device_of(tensor) == target:
        return tensor.to(dtype)
    if waits_for := _copy_waits(tensor, target, non_blocking):
        gpu.wait(waits_for)
    moved = tensor.to(dtype, copy=True)
    put(moved, target)
    return moved


def _tolist(gpu: PretendedGPU, tensor: Tensor) -> Any:
    if device_of(tensor) == GPU:
        gpu.wait("tolist")
    return tensor.tolist()


def _numpy(convert: Callable[..., Any]) -> Callable[..., Any]:
    def converted(gpu: PretendedGPU, tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if device_of(tensor) == GPU:
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the "
                "tensor to host memory first."
            )
        return convert(tensor, *args, **kwargs)

    return converted


def _pin_memory(gpu: PretendedGPU, tensor: Tensor, device: Any = None) -> Tensor:
    if device_of(tensor) == GPU:
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be")
    if _is_pinned(gpu, tensor):
        return tensor
    pinned = tensor.clone()
    pinned.untyped_storage().pinned = True  # type: ignore[attr-defined]
    return pinned


def _is_pinned(gpu: PretendedGPU, tensor: Tensor, device: Any = None) -> bool:
    return hasattr(tensor.untyped_storage(), "pinned")


ANSWERED: dict[Any, Callable[..., Any]] = {
    Tensor.device.__get__: lambda gpu, t, *_: device_of(t),
    Tensor.is_cuda.__get__: lambda gpu, t, *_: device_of(t) == GPU,
    Tensor.is_cpu.__get__: lambda gpu, t, *_: device_of(t) == CPU,
    Tensor.get_device: lambda gpu, t: 0 if device_of(t) == GPU else -1,
    Tensor.to: _to,
    Tensor.cpu: lambda gpu, t, **_: _moved(gpu, t, CPU),
    Tensor.cuda: lambda gpu, t, device=None, non_blocking=False, **_: _moved(
        gpu, t, GPU, None, non_blocking
    ),
    Tensor.tolist: _tolist,
    Tensor.numpy: _numpy(Tensor.numpy),
    Tensor.__array__: _numpy(Tensor.__array__),
    Tensor.pin_memory: _pin_memory,
    Tensor.is_pinned: _is_pinned,
}
