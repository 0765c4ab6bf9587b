"""Series: groups of runs that differ only in their seed, with unique labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from icot.config.schema import TrainConfig
from icot.reporting.paper import paper_row, paper_rows
from icot.reporting.runs import Run

# Short names of keys in labels.
SYMBOLS = {"schedule.tokens_per_epoch": "Δ", "schedule.smoothing_lambda": "λ"}


@dataclass
class Series:
    """Runs that differ only in their seed; ``label`` names them in tables and figures."""

    runs: list[Run] = field(default_factory=list)
    label: str = ""

    @property
    def cfg(self) -> TrainConfig:
        """The configuration of one of them."""
        return self.runs[0].cfg

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
            for removed, accuracy in run.curve.items():
                found.setdefault(removed, []).append(accuracy)
        return found


def gather_series(runs: Sequence[Run]) -> list[Series]:
    """Group runs into series with unique labels."""
    found: dict[tuple[tuple[str, str], ...], Series] = {}
    for run in runs:
        found.setdefault(tuple(sorted(run.settings.items())), Series()).runs.append(run)
    by_name: dict[str, list[Series]] = {}
    for series in found.values():
        series.runs.sort(key=lambda run: run.cfg.seed)
        by_name.setdefault(_name(series.runs[0]), []).append(series)
    for name, alike in by_name.items():
        for series in alike:
            series.label = ", ".join([name, *_differences(series, alike)])
    return sorted(found.values(), key=_sort_key)


def _sort_key(series: Series) -> tuple[int, str]:
    """Sort key: the order of the paper's numbers, then the label."""
    rows = paper_rows()
    row = paper_row(series.runs[0].experiment, series.runs[0].method)
    return (rows.index(row) if row is not None else len(rows)), series.label


def _name(run: Run) -> str:
    row = paper_row(run.experiment, run.method)
    if row is not None:
        return row.row
    if run.method != "icot_si":
        return run.method
    return str(run.environment.get("schedule") or run.cfg.schedule.kind)


def _differences(series: Series, alike: Sequence[Series]) -> list[str]:
    """The values in which a series differs from others of the same name."""
    own, others = series.runs[0].settings, [other.runs[0].settings for other in alike]
    keys = [*(k for k in SYMBOLS if k in own), *(k for k in own if k not in SYMBOLS)]
    return [
        f"{SYMBOLS.get(key, key.split('.')[-1].replace('_', ' '))} {short(own[key])}"
        for key in keys
        if len({other.get(key) for other in others}) > 1
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
