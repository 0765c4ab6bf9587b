"""Sections that compare methods on several tasks, and on examples outside the training range."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from icot.reporting.charts import Line, Lines, Point
from icot.reporting.document import Picture, Section, Table
from icot.reporting.runs import Run
from icot.reporting.series import Series
from icot.reporting.statistics import mean_interval, with_interval


def tasks_and_methods(runs: Sequence[Run]) -> list[Section]:
    """A matrix of accuracies for each sweep over several tasks and several methods.

    Runs outside of a sweep, with another method on one of its tasks and the same model, join it.
    """
    sweeps: dict[str, list[Run]] = {}
    others = [run for run in runs if run.accuracy is not None]
    for run in others:
        if run.sweep:
            sweeps.setdefault(run.sweep, []).append(run)
    for alike in sorted(sweeps.values(), key=len, reverse=True):
        methods = {_method(run) for run in alike}
        settings = [(run.cfg.task, run.cfg.model) for run in alike]
        joining = [
            run
            for run in others
            if _method(run) not in methods and (run.cfg.task, run.cfg.model) in settings
        ]
        for run in joining:
            if run.sweep:
                sweeps[run.sweep].remove(run)
        alike += joining
        others = [run for run in others if run not in alike]
    return [
        _matrix(name, alike)
        for name, alike in sweeps.items()
        if len({_task(run) for run in alike}) > 1 and len({_method(run) for run in alike}) > 1
    ]


def _matrix(sweep: str, runs: Sequence[Run]) -> Section:
    methods = list(dict.fromkeys(map(_method, runs)))
    by_task: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        by_task.setdefault(_task(run), {}).setdefault(_method(run), []).append(run)
    inside, beyond = [], []
    for task, by_method in by_task.items():
        every = [run for alike in by_method.values() for run in alike]
        chains = [str(n) for n in sorted({run.summary.get("longest_cot", 0) for run in every})]
        seen = sorted(
            {sum(t.summary["examples_seen"] for t in r.trainings.values()) for r in every}
        )
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
        "tokens of the longest; examples: of all trainings of a run. A number in brackets counts "
        "the seeds that ended with part of their chain left."
    )
    if beyond:
        text += " The second table has the same weights on examples outside the training examples."
    return Section(f"Tasks and methods: {sweep}", text, tables)


def _task(run: Run) -> str:
    return str(run.environment.get("task"))


def _method(run: Run) -> str:
    return run.approach + (" + chain loss" if run.cfg.schedule.chain_loss else "")


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


def outside(series: Sequence[Series]) -> Section | None:
    """Each stage's accuracy on further examples, for runs whose evaluations have ``also``."""
    runs = [(f"{one.label}, seed {run.cfg.seed}", run) for one in series for run in one.runs]
    found = [(label, _newest_with_further_examples(run)) for label, run in runs]
    judged = [(label, stages) for label, stages in found if stages]
    pictures = [_further(f"outside_{i}", *one) for i, one in enumerate(judged, start=1)]
    text = "The same weights, at each stage, on the run's own examples and on further ones."
    return Section("Outside the training examples", text, pictures=pictures) if pictures else None


def _further(name: str, label: str, stages: Sequence[Mapping[str, Any]]) -> Picture:
    judged = {"own examples": stages}
    judged |= {other: [stage["also"][other] for stage in stages] for other in stages[-1]["also"]}
    removed = [stage["tokens_removed"] for stage in stages]
    lines = [Line(who, list(map(Point.of, removed, alike))) for who, alike in judged.items()]
    rows = [
        [str(stage["name"]), str(x), *map(with_interval, alike)]
        for stage, x, *alike in zip(stages, removed, *judged.values(), strict=True)
    ]
    picture = Lines(lines, y_label="exact match").picture(
        name,
        f"Accuracy by tokens removed on own and further examples, {label}.",
        f"{label}. Bands are 95 % intervals over the questions.",
    )
    table = Table(("weights", "removed", *judged), rows, frozenset(range(1, 2 + len(judged))))
    return replace(picture, table=table)


def _newest_with_further_examples(run: Run) -> list[Mapping[str, Any]]:
    """The records of the stages, or of the only weights."""
    for evaluation in reversed(run.evaluations):
        stages = evaluation.record.get("stages", [evaluation.record])
        if all(stage.get("also") for stage in stages):
            return list(stages)
    return []
