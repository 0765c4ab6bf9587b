"""Ways to do one thing, timed by turns."""

from collections.abc import Callable, Mapping
from itertools import count
from statistics import median
from time import perf_counter
from typing import Any

Way = Callable[[], Any]


def by_turns(ways: Mapping[str, Way], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, ``repeats`` times, every other round in reverse order."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(repeats):
        for name in list(ways) if i % 2 else reversed(list(ways)):
            begun = perf_counter()
            ways[name]()
            seconds[name].append(perf_counter() - begun)
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """The middle of each way's times."""
    return {name: median(times) for name, times in seconds.items()}


def starts_by_turns(ours: Callable[[str], Any], plain: Way, repeats: int) -> dict[str, list[float]]:
    """Seconds of ours with an empty cache, with one that it has left, and of the plain way.

    Args:
        ours: given the cache's name.
        plain: keeps nothing.
        repeats: of each.
    """
    caches = count()
    ours("second")
    return by_turns(
        {
            "ours": lambda: ours(f"first-{next(caches)}"),
            "ours, second start": lambda: ours("second"),
            "plain": plain,
        },
        repeats,
    )
