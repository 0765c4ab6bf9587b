"""The speed of a predictor: examples per second at batch 1 and at the best batch size.

The paper's measure is examples per second at batch 1, over those of a No CoT model. The reference
here is the same weights: for each question they write as many tokens as its own correct answer has
with its separators, whatever the tokens are. This is the work of a No CoT model of the same size
that answers correctly. Each question is timed both ways, one after the other, and the speed is the
median of the ratios, so that other load affects both.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
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
        outputs: [n] tokens written for each; None if the predictor writes texts.
    """

    seconds: Sequence[float]
    outputs: Sequence[list[int]] | None

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
        written = None if self.outputs is None else sum(map(len, self.outputs))
        return {
            "examples_per_second": self.examples_per_second,
            "examples_per_second_quartiles": list(self.spread),
            "tokens_per_example": None if written is None else written / len(self.seconds),
            "examples": len(self.seconds),
        }


@dataclass(frozen=True)
class Comparison:
    """How much faster one way is than another that was timed side by side with it.

    Attributes:
        speed: median over the questions of how many it answers while the other answers one.
        low, high: 95 % interval of that median, which supposes no distribution; of fewer than six
            questions the lowest and the highest ratio.
        same: both wrote the same tokens, so they are one computation, timed twice.
    """

    speed: float
    low: float
    high: float
    same: bool


def compare(timing: Timing, reference: Timing) -> Comparison:
    """The speed of ``timing`` as a multiple of that of ``reference``, [n] questions each."""
    ratios = sorted(r / s for s, r in zip(timing.seconds, reference.seconds, strict=True))
    n, rank = len(ratios), 1
    # The largest rank that the median lies below with a probability of 2.5 % at the most.
    while sum(comb(n, heads) for heads in range(rank + 1)) <= 0.025 * 2**n:
        rank += 1
    same = timing.outputs is not None and timing.outputs == reference.outputs
    return Comparison(median(ratios), ratios[rank - 1], ratios[n - rank], same)


def time_single_examples(
    predictor: Predictor,
    ways: Mapping[str, tuple[StagedExamples, bool]],
    examples: int,
    seconds: float,
    others: Mapping[str, Predictor] | None = None,
) -> dict[str, Timing]:
    """Decode the same questions in several ways alternately, one at a time.

    Args:
        predictor: to time.
        ways: the examples at a stage, all with the same rows; and whether to write as many tokens
            as each example's correct output has, whatever they are.
        examples: the most questions to time.
        seconds: stop after this time, once ``MIN_TIMED`` are timed.
        others: predictors to use in place of ``predictor``, for the ways of these names.

    Returns:
        One timing for each way.
    """
    by_name = dict.fromkeys(ways, predictor) | dict(others or {})
    count = len(next(iter(ways.values()))[0])
    timed: dict[str, list[float]] = {name: [] for name in ways}
    outputs: dict[str, list[list[int]]] = {name: [] for name in ways}
    for i in range(WARMUP):
        for name, (staged, own_length) in ways.items():
            by_name[name].decode(staged, np.array([i % count]), own_length)
    begun = time.perf_counter()
    for i in range(examples):
        order = list(ways.items())
        for name, (staged, own_length) in order if i % 2 else reversed(order):
            index = np.array([i % count])
            start = _now(predictor.device)
            written = by_name[name].decode(staged, index, own_length).tokens
            timed[name].append(_now(predictor.device) - start)
            outputs[name] += written or []
        if i + 1 >= MIN_TIMED and time.perf_counter() - begun > seconds:
            break
    return {name: Timing(timed[name], outputs[name] or None) for name in ways}


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
