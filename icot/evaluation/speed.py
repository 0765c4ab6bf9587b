"""How fast a predictor answers: examples a second one at a time, and in the best batch.

The paper's measure is examples per second at batch 1, as a multiple of what the same model does
when it writes the answer alone (No CoT). Both are timed here by turns, so that whatever else the
machine is doing meets both.
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
MIN_TIMED = 5  # examples timed however long they take
BATCH_SIZES = (8, 32, 128, 512)
MIN_GAIN = 1.05  # a larger batch must be so much faster


@dataclass(frozen=True)
class Timing:
    """Seconds of single examples.

    Attributes:
        seconds: [n] of each example.
        tokens: written for them, in all; None where the predictor writes texts.
    """

    seconds: Sequence[float]
    tokens: int | None

    @property
    def examples_per_second(self) -> float:
        """From the median."""
        return 1 / median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Examples per second at the slower and the faster quartile."""
        if len(self.seconds) == 1:
            return self.examples_per_second, self.examples_per_second
        low, _, high = quantiles(self.seconds, n=4)
        return 1 / high, 1 / low

    def summary(self) -> dict[str, Any]:
        """For a report."""
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
    """Decode the same questions at several stages by turns, one at a time.

    Args:
        predictor: that is timed.
        stages: the examples at each stage, all with the same rows.
        examples: how many questions are timed at the most.
        seconds: stop after as long, once ``MIN_TIMED`` are timed.
        to_the_limit: let all outputs be as long as the longest correct one.

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
    """The batch size that decodes most examples a second, and how many those are.

    Larger sizes are tried as long as they pay, fit the examples, and ``seconds`` are not over; None
    where there are fewer examples than the smallest size.
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
    """Seconds, once ``device`` has done what it was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
