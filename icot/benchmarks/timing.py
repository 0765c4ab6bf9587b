"""Timing several ways to do the same thing alternately, so that other load affects all alike."""

from collections.abc import Callable, Mapping
from itertools import count
from statistics import median
from time import perf_counter
from typing import Any

Way = Callable[[], Any]


def time_alternately(ways: Mapping[str, Way], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, ``repeats`` times; every other round is in reverse order."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(repeats):
        for name in list(ways) if i % 2 else reversed(list(ways)):
            begun = perf_counter()
            ways[name]()
            seconds[name].append(perf_counter() - begun)
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """The median time of each way."""
    return {name: median(times) for name, times in seconds.items()}


def time_starts(ours: Callable[[str], Any], plain: Way, repeats: int) -> dict[str, list[float]]:
    """Seconds of ours with an empty cache and with a filled one, and of the plain way.

    Args:
        ours: called with the name of a cache.
        plain: uses no cache.
        repeats: of each.
    """
    caches = count()
    ours("second")
    return time_alternately(
        {
            "ours": lambda: ours(f"first-{next(caches)}"),
            "ours, second start": lambda: ours("second"),
            "plain": plain,
        },
        repeats,
    )
