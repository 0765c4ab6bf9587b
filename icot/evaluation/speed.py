"""The speed of a predictor: examples per second at batch 1 and at the best batch size.

The paper's measure is examples per second at batch 1, over those of the same model when it writes
only the answer (No CoT). Both are timed alternately, so that other load affects both.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import numpy as np
import torch

from icot.data.staged import StagedExamples
from icot.inference.predictor import Predictor

WARMUP = 3  # examples decoded before the clock starts
MIN_TIMED = 5  # examples timed even if they take too long
BATCH_SIZES = (8, 32, 128, 512)
MIN_GAIN = 1.05  # a larger batch must be faster by this factor


@dataclass(frozen=True)
class Timing:
    """Seconds of single examples.

    Attributes:
        seconds: [n] of each example.
        tokens: written for all of them; None if the predictor writes texts.
    """

    seconds: Sequence[float]
    tokens: int | None

    @property
    def examples_per_second(self) -> float:
        """From the median time."""
        return 1 / median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Examples per second at the slower and the faster quartile."""
        if len(self.seconds) == 1:
            return self.examples_per_second, self.examples_per_second
        low, _, high = quantiles(self.seconds, n=4)
        return 1 / high, 1 / low

    def summary(self) -> dict[str, Any]:
        """The figures by name."""
        return {
            "examples_per_second": self.examples_per_second,
            "examples_per_second_quartiles": list(self.spread),
            "tokens_per_example": None if self.tokens is None else self.tokens / len(self.seconds),
            "examples": len(self.seconds),
        }


def time_single_examples(
    predictor: Predictor,
    stages: Mapping[str, StagedExamples],
    examples: int,
    seconds: float,
    to_the_limit: bool = False,
) -> dict[str, Timing]:
    """Decode the same questions at several stages alternately, one at a time.

    Args:
        predictor: to time.
        stages: the examples at each stage, all with the same rows.
        examples: the most questions to time.
        seconds: stop after this time, once ``MIN_TIMED`` are timed.
        to_the_limit: make all outputs as long as the longest correct one.

    Returns:
        One timing for each stage.
    """
    count = len(next(iter(stages.values())))
    timed: dict[str, list[float]] = {name: [] for name in stages}
    tokens: dict[str, int | None] = dict.fromkeys(stages, 0)
    for i in range(WARMUP):
        for staged in stages.values():
            predictor.decode(staged, np.array([i % count]), to_the_limit)
    begun = time.perf_counter()
    for i in range(examples):
        order = list(stages.items())
        for name, staged in order if i % 2 else reversed(order):
            index = np.array([i % count])
            start = _now(predictor.device)
            written = predictor.decode(staged, index, to_the_limit).tokens
            timed[name].append(_now(predictor.device) - start)
            so_far = tokens[name]
            tokens[name] = None if written is None or so_far is None else so_far + len(written[0])
        if i + 1 >= MIN_TIMED and time.perf_counter() - begun > seconds:
            break
    return {name: Timing(timed[name], tokens[name]) for name in stages}


def find_best_batch(
    predictor: Predictor, examples: StagedExamples, seconds: float
) -> tuple[int, float] | None:
    """The batch size with the most examples per second, and that number.

    Tries larger sizes while they are faster, there are enough examples, and ``seconds`` have not
    passed. None if there are fewer examples than the smallest size.
    """
    best: tuple[int, float] | None = None
    begun = time.perf_counter()
    for size in BATCH_SIZES:
        if size > len(examples):
            break
        predictor.decode(examples, np.arange(min(size, 8)))
        start = _now(predictor.device)
        predictor.decode(examples, np.arange(size))
        rate = size / (_now(predictor.device) - start)
        if best is not None and rate < MIN_GAIN * best[1]:
            break
        best = (size, rate)
        if time.perf_counter() - begun > seconds:
            break
    return best


def _now(device: torch.device) -> float:
    """The time once ``device`` has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
