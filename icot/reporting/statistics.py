"""Means over seeds, and accuracies with their intervals as text."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from scipy.stats import t


def mean_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean and 95 % interval by Student's t, cut at 0 and 1; a single value has no interval.

    Three seeds tell little: with two degrees of freedom the interval is 2.5 standard deviations
    wide to each side, and accuracies that jump are not normally distributed.
    """
    middle = mean(values)
    if len(values) < 2:
        return middle, None, None
    reach = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return middle, max(0.0, middle - reach), min(1.0, middle + reach)


def seeds_interval(accuracies: Sequence[float]) -> str:
    """The mean over seeds with its interval, if there is one."""
    middle, low, high = mean_interval(accuracies)
    return f"{middle:.3f}" + ("" if low is None else f" ({low:.3f}-{high:.3f})")


def with_interval(record: Mapping[str, Any]) -> str:
    """The accuracy that a summary or an evaluation has, with its interval where that is known."""
    accuracy, low, high = (record.get(f"accuracy{end}") for end in ("", "_low", "_high"))
    text = "" if accuracy is None else f"{accuracy:.3f}"
    return text if low is None or high is None else f"{text} ({low:.3f}-{high:.3f})"
