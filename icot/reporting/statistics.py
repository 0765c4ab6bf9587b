"""Means over seeds."""

from collections.abc import Sequence
from statistics import mean, stdev

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
