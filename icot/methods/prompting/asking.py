"""Asking all questions: the first one at a time, for the speed, the others together."""

from collections.abc import Sequence
from contextlib import closing
from statistics import median
from typing import Any

from rich.progress import track

from icot.errors import RunError
from icot.inference.completions import Completion, Request, Writer, what_cut

MIN_TIMED = 5  # a median of fewer is not reported


def ask(
    writer: Writer,
    requests: Sequence[Request],
    *,
    timed: int,
    seconds: float,
    max_truncated: float,
    max_tokens: int,
) -> list[Completion]:
    """The text for each request.

    Args:
        writer: the model.
        requests: at least one.
        timed: so many of the first are asked one at a time,
        seconds: at most for so long, once ``MIN_TIMED`` are.
        max_truncated: the share of cut texts above which this ends.
        max_tokens: at which they are cut, for the message.

    Raises:
        RunError: too many are cut, or the writer cannot go on.
    """
    found: dict[int, Completion] = {}
    cut, spent = 0, 0.0
    rest = list(range(timed, len(requests)))
    for indices, alone in ((list(range(min(timed, len(requests)))), True), (rest, False)):
        part = [requests[i] for i in indices]
        title = "one at a time" if alone else "together"
        with closing(writer.sample(part, one_at_a_time=alone)) as arriving:
            for number, one in track(arriving, title, len(part), disable=not part):
                found[indices[number]] = one
                cut += one.truncated
                if cut > max_truncated * len(requests):
                    reasons = [one.finish_reason for one in found.values() if one.truncated]
                    raise RunError(
                        f"more than {max_truncated:.0%} of the {len(requests)} answers are cut "
                        f"{what_cut(reasons, max_tokens)}: set max_new_tokens= to more, "
                        "prompt.stop= for a model that does not end, or prompt.max_truncated=1 to "
                        "count them as wrong."
                    )
                spent += one.seconds or 0.0
                if alone and spent > seconds and len(found) >= MIN_TIMED:
                    break
        rest[:0] = [i for i in indices if i not in found]
    return [found[i] for i in range(len(requests))]


def speed_of(written: Sequence[Completion]) -> dict[str, Any]:
    """Examples a second, by the median time of texts that were asked for alone and succeeded at
    once; {} without at least ``MIN_TIMED``.
    """
    times = [one.seconds for one in written if one.seconds is not None]
    if len(times) < MIN_TIMED:
        return {}
    middle = median(times)
    return {"examples_per_second": 1 / middle, "seconds": middle, "examples": len(times)}
