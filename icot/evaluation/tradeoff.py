"""Accuracy against speed over the stages of a run (Figure 2a of arXiv 2405.14838)."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from icot.system.files import replace_file

ALSO = "accuracy on "  # begins the columns of the accuracy on further examples
SPEED_TOLERANCE = 0.03  # speeds closer to No CoT's count as equal to it


@dataclass(frozen=True)
class TradeoffPoint:
    """One stage, or a baseline.

    Attributes:
        name: the stage's number or the baseline's name.
        tokens_removed: from each chain.
        tokens_per_example: written, including separators.
        accuracy, accuracy_low, accuracy_high: exact match and its 95 % interval.
        examples_per_second: at batch 1, median.
        speed: examples_per_second over No CoT's on the same model.
        baseline: it is of another run, and not part of the curve.
        also: the accuracy on further examples, by their name.
    """

    name: str
    tokens_removed: int
    tokens_per_example: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    examples_per_second: float
    speed: float
    baseline: bool = False
    also: Mapping[str, float] = field(default_factory=dict)


def find_dominated(points: Sequence[TradeoffPoint]) -> list[bool]:
    """Whether another point beats each point in accuracy or speed and equals it in the other.

    No output with an answer is faster than the answer alone, so a speed above 1 (of outputs that
    end early) counts as 1, and so does a speed within the measurement error of 1.
    """
    ranked = [(p.accuracy, 1.0 if p.speed > 1 - SPEED_TOLERANCE else p.speed) for p in points]
    return [
        any(a >= accuracy and s >= speed and (a, s) != (accuracy, speed) for a, s in ranked)
        for accuracy, speed in ranked
    ]


def tradeoff_rows(points: Sequence[TradeoffPoint]) -> list[dict[str, Any]]:
    """The points as rows; ``dominated`` stages are beaten by another stage of the run."""
    stages = [p for p in points if not p.baseline]
    beaten = {p.name for p, lost in zip(stages, find_dominated(stages), strict=True) if lost}
    return [_row(p) | {"dominated": not p.baseline and p.name in beaten} for p in points]


def _row(point: TradeoffPoint) -> dict[str, Any]:
    row = asdict(point)
    also = row.pop("also")
    return row | {f"{ALSO}{name}": accuracy for name, accuracy in also.items()}


def write_tradeoff(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``tradeoff.csv``, one row per point."""
    with replace_file(path) as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
