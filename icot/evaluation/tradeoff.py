"""Accuracy against speed over the stages of a run (Figure 2a of arXiv 2405.14838)."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from icot.system.files import replace_file

SPEED_TOLERANCE = 0.03  # speeds that differ by less from No CoT's are its own


@dataclass(frozen=True)
class TradeoffPoint:
    """One stage, or a baseline.

    Attributes:
        name: the stage's number or the baseline's name.
        tokens_removed: from each chain.
        tokens_per_example: written, separators counted.
        accuracy, accuracy_low, accuracy_high: exact match and its 95 % interval.
        examples_per_second: at batch 1, median.
        speed: that, as a multiple of No CoT's on the same model.
        baseline: measured on another run, and not part of this one's curve.
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


def find_dominated(points: Sequence[TradeoffPoint]) -> list[bool]:
    """Which points another one beats in accuracy or speed without losing in the other.

    Nothing that writes an answer is faster than writing the answer alone: a speed above 1, of
    outputs that break off, counts as 1, and so does one that the clock cannot tell from it.
    """
    ranked = [(p.accuracy, 1.0 if p.speed > 1 - SPEED_TOLERANCE else p.speed) for p in points]
    return [
        any(a >= accuracy and s >= speed and (a, s) != (accuracy, speed) for a, s in ranked)
        for accuracy, speed in ranked
    ]


def tradeoff_rows(points: Sequence[TradeoffPoint]) -> list[dict[str, Any]]:
    """The points as rows that say which stages are ``dominated``, by another stage of the run."""
    stages = [p for p in points if not p.baseline]
    beaten = {p.name for p, lost in zip(stages, find_dominated(stages), strict=True) if lost}
    return [{**asdict(p), "dominated": not p.baseline and p.name in beaten} for p in points]


def write_tradeoff(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``tradeoff.csv``, one row a point."""
    with replace_file(path) as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
