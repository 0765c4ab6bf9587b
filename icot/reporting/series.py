"""Series: groups of runs that differ only in their seed, with unique labels."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from icot.config.schema import TrainConfig
from icot.reporting.paper import paper_row, paper_rows
from icot.reporting.runs import Run

# Short names of keys in labels.
SYMBOLS = {"schedule.tokens_per_epoch": "Δ", "schedule.smoothing_lambda": "λ"}


@dataclass
class Series:
    """Runs that differ only in their seed.

    Attributes:
        runs: by seed.
        name: tells them from other series of their task.
        label: tells them from all series of the report.
        details: further settings in which they differ from series of the same task and method.
    """

    runs: list[Run] = field(default_factory=list)
    name: str = ""
    label: str = ""
    details: list[str] = field(default_factory=list)

    @property
    def cfg(self) -> TrainConfig:
        """The configuration of one of them."""
        return self.runs[0].cfg

    @property
    def task(self) -> str:
        """The task of all of them."""
        return self.runs[0].task

    @property
    def is_baseline(self) -> bool:
        """Whether they remove the same tokens throughout."""
        return self.runs[0].is_baseline

    @property
    def seeds(self) -> list[Run]:
        """One run for each seed: the latest finished one if there are several."""
        latest: dict[int, Run] = {}
        for run in sorted(self.runs, key=lambda r: (r.finished, r.begun)):
            latest[run.cfg.seed] = run
        return [latest[seed] for seed in sorted(latest)]

    @property
    def measured(self) -> list[Run]:
        """The runs of ``seeds`` with a final accuracy."""
        return [run for run in self.seeds if run.accuracy is not None]

    @property
    def accuracies(self) -> list[float]:
        """The final accuracies of ``measured``."""
        return [run.accuracy for run in self.measured if run.accuracy is not None]

    @property
    def curve(self) -> dict[float, list[float]]:
        """Validation accuracies by tokens removed, one for each seed that got there."""
        found: dict[float, list[float]] = {}
        for run in self.seeds:
            for removed, row in run.curve.items():
                found.setdefault(removed, []).append(row["val_accuracy"])
        return found


def gather_series(runs: Sequence[Run], without: str = "") -> list[Series]:
    """Group runs into series with unique labels; their runs may also differ in ``without``."""
    found: dict[tuple[tuple[str, str], ...], Series] = {}
    for run in runs:
        settings = tuple(sorted((k, v) for k, v in run.settings.items() if k != without))
        found.setdefault(settings, Series()).runs.append(run)
    by_name: dict[tuple[str, str], list[Series]] = {}
    for series in found.values():
        series.runs.sort(key=lambda run: run.cfg.seed)
        by_name.setdefault((series.task, _name(series.runs[0])), []).append(series)
    one_task = len({task for task, _ in by_name}) == 1
    for (task, name), alike in by_name.items():
        telling, others = _differing_keys(alike, without)
        for series in alike:
            series.name = ", ".join([name, *_values(series, telling)])
            series.label = series.name if one_task else f"{task}: {series.name}"
            series.details = _values(series, others)
    return sorted(found.values(), key=_sort_key)


def _sort_key(series: Series) -> tuple[int, list[str | float]]:
    """Sort key: the order of the paper's numbers, then the label, with numbers by their size."""
    rows = paper_rows()
    row = paper_row(series.runs[0].experiment, series.runs[0].method)
    parts = enumerate(re.split(r"(\d+(?:\.\d+)?)", series.label))
    label = [float(part) if i % 2 else part for i, part in parts]
    return (rows.index(row) if row is not None else len(rows)), label


def _name(run: Run) -> str:
    row = paper_row(run.experiment, run.method)
    if row is not None:
        return row.row
    return run.approach


def _differing_keys(alike: Sequence[Series], without: str) -> tuple[list[str], list[str]]:
    """The few keys that tell series of one name apart, and the others in which they differ."""
    settings = [series.runs[0].settings for series in alike]
    keys = dict.fromkeys([*SYMBOLS, *(key for values in settings for key in values)])
    keys.pop(without, None)

    def count(*chosen: str) -> int:
        """How many kinds of series these keys tell apart."""
        return len({tuple(values.get(key) for key in chosen) for values in settings})

    others = [key for key in keys if count(key) > 1]
    telling: list[str] = []
    while count(*telling) < len(alike):
        best = max(others, key=lambda key: count(*telling, key))
        others.remove(best)
        telling.append(best)
    return sorted(telling, key=list(keys).index), others


def _values(series: Series, keys: Sequence[str]) -> list[str]:
    """The values that a series has for some keys, with short names."""
    own = series.runs[0].settings
    return [
        f"{SYMBOLS.get(key, key.split('.')[-1].replace('_', ' ').strip())} {short(own[key])}"
        for key in keys
        if key in own
    ]


def short(value: str) -> str:
    """A configuration value in short form."""
    if value == "None":
        return "none"
    if value.startswith("icot."):
        return value.rpartition(".")[2]
    try:
        return f"{float(value):g}" if not value.isdecimal() else value
    except ValueError:
        return value
