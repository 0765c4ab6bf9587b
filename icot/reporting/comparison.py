"""Sections that compare methods on several tasks, and on examples outside the training range."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from icot.reporting import charts
from icot.reporting.document import Picture, Section, Table
from icot.reporting.runs import Run
from icot.reporting.series import Series
from icot.reporting.statistics import mean_interval


def tasks_and_methods(runs: Sequence[Run]) -> list[Section]:
    """A matrix of accuracies for each sweep over several tasks and several methods."""
    sweeps: dict[str, list[Run]] = {}
    for run in runs:
        if run.sweep and run.accuracy is not None:
            sweeps.setdefault(run.sweep, []).append(run)
    return [
        _matrix(name, alike)
        for name, alike in sweeps.items()
        if len({_task(run) for run in alike}) > 1 and len({_method(run) for run in alike}) > 1
    ]


def _matrix(sweep: str, runs: Sequence[Run]) -> Section:
    methods = list(dict.fromkeys(_method(run) for run in runs))
    by_task: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        by_task.setdefault(_task(run), {}).setdefault(_method(run), []).append(run)
    inside, beyond = [], []
    for task, by_method in by_task.items():
        every = [run for alike in by_method.values() for run in alike]
        chains = [str(n) for n in sorted({run.summary.get("longest_cot", 0) for run in every})]
        seen = sorted({run.summary["examples_seen"] for run in every})
        examples = f"{seen[0]:,}" if len(seen) == 1 else f"{seen[0]:,}-{seen[-1]:,}"
        cells = [_cell(by_method.get(method, ())) for method in methods]
        inside.append([task, ", ".join(chains), examples, *cells])
        names = dict.fromkeys(name for run in every for name in _at_the_end(run))
        for name in names:
            judged = [
                [found[name]["accuracy"] for found in map(_at_the_end, alike) if name in found]
                for alike in (by_method.get(method, ()) for method in methods)
            ]
            beyond.append([task, name, *map(_mean, judged)])
    numeric = frozenset(range(1, 3 + len(methods)))
    tables = [Table(("task", "chain", "examples", *methods), inside, numeric)]
    if beyond:
        tables.append(Table(("task", "other examples", *methods), beyond, numeric - {1}))
    text = (
        "Mean exact match over seeds at the end of training, with Student's 95 % interval; chain: "
        "tokens of the longest; examples: trained on by each run. A number in brackets counts the "
        "seeds that ended with part of their chain left."
    )
    if beyond:
        text += " The second table has the same weights on examples outside the training examples."
    return Section(f"Tasks and methods: {sweep}", text, tables)


def _task(run: Run) -> str:
    return str(run.environment.get("task"))


def _method(run: Run) -> str:
    """The schedule of stepwise internalization, or the name of another method."""
    return str(run.environment.get("schedule")) if run.method == "icot_si" else run.method


def _cell(runs: Sequence[Run]) -> str:
    latest = {run.cfg.seed: run for run in sorted(runs, key=lambda run: run.begun)}
    text = _mean([run.accuracy for run in latest.values() if run.accuracy is not None])
    left = sum(bool(run.remainder) for run in latest.values())
    return f"{text} [{left}]" if left else text


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    middle, low, high = mean_interval(values)
    return f"{middle:.3f}" if low is None else f"{middle:.3f} ({low:.2f}-{high:.2f})"


def _at_the_end(run: Run) -> Mapping[str, Any]:
    """The further examples of the last weights, by name."""
    stages = _newest_with_further_examples(run)
    found: Mapping[str, Any] = stages[-1]["also"] if stages else {}
    return found


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
