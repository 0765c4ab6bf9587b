"""The time of a step's matrix products alone: the upper bound on training speed."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

REPEATS = 5


@dataclass(frozen=True)
class Products:
    """The products of activations with weights in one step, forward and backward.

    Attributes:
        flops: two for each multiply-add.
        seconds: their total time.
    """

    flops: float
    seconds: float


def time_products(
    model: nn.Module, tokens: int, supervised: int, dtype: torch.dtype, device: torch.device
) -> Products:
    """Time the products of a step.

    Args:
        model: a Hugging Face causal LM.
        tokens: in the batch.
        supervised: tokens that the output layer is applied to.
        dtype: of the products.
        device: of the products.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    shapes: Counter[tuple[int, int, int]] = Counter()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            n, k = module.weight.shape
        elif isinstance(module, Conv1D):
            k, n = module.weight.shape
        else:
            continue
        shapes[supervised if module is head else tokens, k, n] += 1
    flops = seconds = 0.0
    for (m, k, n), count in shapes.items():
        x = torch.randn(m, k, device=device, dtype=dtype)
        w = torch.randn(k, n, device=device, dtype=dtype)
        y = torch.randn(m, n, device=device, dtype=dtype)
        products = (_product(x, w), _product(y, w.T), _product(x.T, y))  # forward, then backward
        seconds += count * sum(_seconds(product, device) for product in products)
        flops += count * 6.0 * m * k * n
    return Products(flops, seconds)


def _product(a: Tensor, b: Tensor) -> Callable[[], Tensor]:
    return lambda: a @ b


def _seconds(product: Callable[[], Tensor], device: torch.device) -> float:
    product()
    times = []
    for _ in range(REPEATS):
        synchronize(device)
        begun = perf_counter()
        product()
        synchronize(device)
        times.append(perf_counter() - begun)
    return median(times)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
