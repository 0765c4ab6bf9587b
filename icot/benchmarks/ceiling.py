"""The time of a step's matrix products alone: the upper bound on training speed."""

from collections import Counter
from collections.abc import Callable, Sequence
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


@dataclass(frozen=True)
class Work:
    """What a part of a step does.

    Attributes:
        module: whose weights are multiplied with.
        tokens: that pass through it.
        supervised: of them, that the output layer of a causal LM is applied to.
        backward: it is trained.
    """

    module: nn.Module
    tokens: int
    supervised: int = 0
    backward: bool = True


def time_products(
    parts: Sequence[Work], dtype: torch.dtype, device: torch.device | str
) -> Products:
    """Time the products of a step that consists of ``parts``."""
    shapes: Counter[tuple[int, int, int, bool]] = Counter()
    for part in parts:
        find_head = getattr(part.module, "get_output_embeddings", lambda: None)
        head = find_head()
        for module in part.module.modules():
            if isinstance(module, nn.Linear):
                n, k = module.weight.shape
            elif isinstance(module, Conv1D):
                k, n = module.weight.shape
            else:
                continue
            tokens = part.supervised if module is head else part.tokens
            if tokens:
                shapes[tokens, k, n, part.backward] += 1
    flops = seconds = 0.0
    device = torch.device(device)
    for (m, k, n, backward), count in shapes.items():
        x = torch.randn(m, k, device=device, dtype=dtype)
        w = torch.randn(k, n, device=device, dtype=dtype)
        y = torch.randn(m, n, device=device, dtype=dtype)
        products = [_product(x, w)]
        if backward:
            products += [_product(y, w.T), _product(x.T, y)]
        seconds += count * sum(_seconds(product, device) for product in products)
        flops += count * len(products) * 2.0 * m * k * n
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
