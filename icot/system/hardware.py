"""Devices, precision and memory."""

import ctypes
import resource
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from icot.errors import ModelError

MALLOPT_TRIM_THRESHOLD, MALLOPT_TOP_PAD, MALLOPT_MMAP_THRESHOLD = -1, -2, -3
LARGEST_INT = 2**31 - 1
KILOBYTE = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss


def computes_bf16(accelerator: str) -> bool:
    """Whether the device that Lightning would choose has native bf16 matrix products."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def device_for(accelerator: str) -> torch.device:
    """The kind of device to use: ``auto`` is a CUDA GPU if there is one, else the CPU.

    Raises:
        ModelError: ``gpu`` or ``cuda`` without a GPU.
    """
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ModelError(f"accelerator={accelerator}: there is no GPU; use accelerator=cpu.")
    use_gpu = accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_gpu else "cpu")


def resolve_precision(precision: str, accelerator: str, dtype: str) -> str:
    """Replace ``auto`` by one of Lightning's names: bf16 if it is native, else float32."""
    if precision != "auto":
        return precision
    if dtype == "bfloat16":
        return "bf16-true"
    return "bf16-mixed" if computes_bf16(accelerator) else "32-true"


def peak_memory(device: torch.device) -> int:
    """Peak bytes that torch allocated on a GPU, or else this process's peak resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE


def keep_freed_memory() -> None:
    """Let glibc reuse freed blocks of several megabytes instead of returning them to the system.

    Otherwise each activation is mapped and zeroed again in every step; keeping them makes a small
    model's step on a CPU about a fifth faster. Without glibc this does nothing.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(MALLOPT_MMAP_THRESHOLD, 32 * 2**20)
    mallopt(MALLOPT_TRIM_THRESHOLD, LARGEST_INT)
    mallopt(MALLOPT_TOP_PAD, 256 * 2**20)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch could not allocate memory, on a GPU or on the CPU."""
    cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return cpu or isinstance(error, torch.OutOfMemoryError)


def precision_context(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context of forward passes: autocast for ``bf16-mixed``, else none."""
    if precision == "bf16-mixed":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
