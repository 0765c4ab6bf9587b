"""Sections that compare: what internalization costs outside the training range."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from icot.reporting import charts
from icot.reporting.document import Picture, Section, Table
from icot.reporting.runs import Run
from icot.reporting.series import Series


def outside(series: Sequence[Series]) -> list[Section]:
    """Each stage's accuracy on further examples, for runs whose evaluations have ``also``."""
    sections = []
    for one in series:
        for run in one.runs:
            stages = _newest_with_further_examples(run)
            if not stages:
                continue
            label = f"{one.label}, seed {run.cfg.seed}"
            names = list(stages[-1]["also"])
            rows = [
                [
                    str(stage["name"]),
                    str(stage["tokens_removed"]),
                    _accuracy(stage),
                    *(_accuracy(stage["also"][name]) for name in names),
                ]
                for stage in stages
            ]
            header = ("weights", "removed", "own examples", *names)
            cells = "; ".join(f"{r[1]} removed: " + ", ".join(r[2:]) for r in rows)
            file = "_".join(["outside", *re.findall(r"\w+", label.replace("×", "x"))]).lower()
            picture = Picture(
                file,
                f"Exact match by tokens removed on {', '.join(['own examples', *names])}. {cells}.",
                "The same weights, at each stage, on the run's own examples and on further ones.",
                partial(charts.outside, stages),
            )
            table = Table(header, rows, frozenset(range(1, len(header))))
            title = f"Outside the training examples: {label}"
            sections.append(Section(title, tables=[table], pictures=[picture]))
    return sections


def _newest_with_further_examples(run: Run) -> list[Mapping[str, Any]]:
    """The records of the stages, or of the only weights."""
    for evaluation in reversed(run.evaluations):
        stages = evaluation.record.get("stages", [evaluation.record])
        if all(stage.get("also") for stage in stages):
            return list(stages)
    return []


def _accuracy(record: Mapping[str, Any]) -> str:
    low, high = record["accuracy_low"], record["accuracy_high"]
    return f"{record['accuracy']:.3f} ({low:.3f}-{high:.3f})"
