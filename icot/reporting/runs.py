"""Run directories for a report: found under folders, read, and grouped into series.

A series is a group of runs that differ only in their seed.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from icot.config.identity import CHANGEABLE, digest, leaves, matches
from icot.config.kept import read_config
from icot.config.schema import TrainConfig
from icot.errors import RunError
from icot.reporting.paper import paper_row, paper_rows
from icot.runs.directory import read_environment, read_summary
from icot.runs.layout import (
    COMMAND,
    CONFIG,
    ENVIRONMENT,
    STAGES,
    SUMMARY,
    SWEEP_INDEX,
    TRADEOFF_TABLE,
)
from icot.runs.sweeps import FINISHED, read_index

# Short names of keys in labels.
SYMBOLS = {"schedule.tokens_per_epoch": "Δ", "schedule.smoothing_lambda": "λ"}
IGNORED_IN_SERIES = (*CHANGEABLE, "seed", "trainer.precision", "trainer.accelerator")


@dataclass(frozen=True)
class Run:
    """A run, read from its directory.

    Attributes:
        folder: the directory.
        cfg: its resolved configuration.
    """

    folder: Path
    cfg: TrainConfig

    @cached_property
    def environment(self) -> dict[str, Any]:
        """The content of environment.json: where it ran, and its options by group."""
        return read_environment(self.folder)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json; empty if the run has not finished."""
        return read_summary(self.folder)

    @cached_property
    def stages(self) -> list[dict[str, float]]:
        """The rows of stages.csv, without empty cells."""
        return _rows(self.folder / STAGES)

    @cached_property
    def tradeoff(self) -> list[dict[str, Any]]:
        """The rows of tradeoff.csv; [] if the stages have not been evaluated."""
        numbers = _rows(self.folder / TRADEOFF_TABLE)
        texts = _rows(self.folder / TRADEOFF_TABLE, keep_text=True)
        return [
            {
                **text,
                **number,
                **{key: text.get(key) == "True" for key in ("baseline", "dominated")},
            }
            for text, number in zip(texts, numbers, strict=True)
        ]

    @property
    def speed(self) -> float | None:
        """Speed over No CoT of the final stage; None if not measured."""
        final = [p for p in self.tradeoff if not p["baseline"]]
        return final[-1].get("speed") if final else None

    @property
    def finished(self) -> bool:
        """Whether it has finished."""
        return bool(self.summary)

    @property
    def experiment(self) -> str | None:
        """The experiment that it was started with."""
        name = self.environment.get("experiment")
        return str(name) if name else None

    @property
    def sweep(self) -> str | None:
        """The sweep that it belongs to."""
        name = self.environment.get("sweep")
        return str(name) if name else None

    @property
    def accuracy(self) -> float | None:
        """Final exact match on the validation split."""
        found = self.summary.get("accuracy")
        return float(found) if found is not None else None

    @property
    def command(self) -> str:
        """The command line that started it."""
        try:
            lines = (self.folder / COMMAND).read_text(encoding="utf-8").splitlines()
        except OSError:
            return ""
        return lines[0] if lines else ""

    @property
    def machine(self) -> str:
        """The hardware that it ran on, in words."""
        e = self.environment
        if e.get("gpu"):
            return f"{e.get('devices', 1)} × {e['gpu']}"
        threads = e.get("threads", "?")
        unit = "thread" if threads == 1 else "threads"
        return f"{e.get('processor', 'unknown')}, {threads} {unit}"

    @property
    def begun(self) -> str:
        """When it was started, in ISO 8601; "" if that is not recorded."""
        return str(self.environment.get("begun") or "")

    @property
    def date(self) -> str:
        """The day it was started, or that its summary was written."""
        if self.begun:
            return self.begun[:10]
        path = self.folder / (SUMMARY if self.finished else CONFIG)
        return datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d")

    @property
    def flops(self) -> float | None:
        """Floating-point operations of training: 6 × weights × tokens."""
        weights, tokens = self.environment.get("parameters"), self.summary.get("tokens_seen")
        return 6.0 * weights * tokens if weights and tokens else None


@dataclass(frozen=True)
class Missing:
    """A run of a sweep that has not finished.

    Attributes:
        name: its name.
        state: its state, with the error message of a failed run.
        command: starts or resumes it.
    """

    name: str
    state: str
    command: str


@dataclass
class Series:
    """Runs that differ only in their seed; ``label`` names them in tables and figures."""

    key: str
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
    def accuracies(self) -> list[float]:
        """Final accuracies of the finished runs, one for each seed."""
        return [run.accuracy for run in self.seeds if run.accuracy is not None]


def find_runs(places: Sequence[Path]) -> tuple[list[Run], list[Missing]]:
    """The runs at or under some folders, and the missing runs of the sweeps there.

    Raises:
        RunError: a folder does not exist or holds no run.
    """
    runs: dict[Path, Run] = {}
    missing: list[Missing] = []
    for place in places:
        if not place.is_dir():
            raise RunError(f"{place}: no such directory.")
        folders = sorted(
            p.parent for p in place.rglob(ENVIRONMENT) if (p.parent / CONFIG).is_file()
        )
        indices = sorted(place.rglob(SWEEP_INDEX))
        lacking = [_missing(i.parent, row) for i in indices for row in read_index(i.parent)]
        missing += [m for m in lacking if m is not None]
        if not folders and not lacking:
            raise RunError(
                f"{place} holds no run: no folder in it has {CONFIG} and {ENVIRONMENT}. A run "
                "directory is what icot.train writes, outputs/... by default."
            )
        for folder in folders:
            runs.setdefault(folder.resolve(), Run(folder, read_config(folder / CONFIG)))
    return list(runs.values()), missing


def gather_series(runs: Sequence[Run]) -> list[Series]:
    """Group runs into series with unique labels."""
    found: dict[str, Series] = {}
    for run in runs:
        key = digest(run.cfg, IGNORED_IN_SERIES)
        found.setdefault(key, Series(key)).runs.append(run)
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
    row = paper_row(series.runs[0].experiment)
    return (rows.index(row) if row is not None else len(rows)), series.label


def _name(run: Run) -> str:
    row = paper_row(run.experiment)
    if row is not None:
        return row.row
    return str(run.environment.get("schedule") or run.cfg.schedule.kind)


def _differences(series: Series, alike: Sequence[Series]) -> list[str]:
    """The values in which a series differs from others of the same name."""
    all_leaves = [leaves(other.cfg.as_dict()) for other in alike]
    own = leaves(series.cfg.as_dict())
    texts = []
    for key in [*(k for k in SYMBOLS if k in own), *(k for k in own if k not in SYMBOLS)]:
        if matches(key, IGNORED_IN_SERIES):
            continue
        if len({str(other.get(key)) for other in all_leaves}) > 1:
            symbol = SYMBOLS.get(key, key.split(".")[-1].replace("_", " "))
            value = own[key]
            texts.append(f"{symbol} {value:g}" if isinstance(value, float) else f"{symbol} {value}")
    return texts


def _missing(folder: Path, row: dict[str, str]) -> Missing | None:
    if row["state"] == FINISHED:
        return None
    state = f"{row['state']}: {row['error']}" if row["error"] else row["state"]
    return Missing(row["directory"] or row["overrides"], state, row["command"])


def _rows(path: Path, keep_text: bool = False) -> list[dict[str, Any]]:
    """The rows of a table; only their numbers unless ``keep_text``."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            texts = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    if keep_text:
        return list(texts)
    return [{k: n for k, v in row.items() if (n := _number(v)) is not None} for row in texts]


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
