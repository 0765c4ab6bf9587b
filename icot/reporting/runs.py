"""Run directories for a report: found under folders, and read."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from icot.config.identity import WITHOUT_EFFECT, leaves, matches
from icot.config.kept import read_config
from icot.config.options import FixedScheduleConfig
from icot.config.schema import TrainConfig
from icot.config.task_options import MultiplicationConfig
from icot.errors import RunError
from icot.reporting.prompted import Prompted, find_prompted
from icot.runs.evaluations import KeptEvaluation, find_evaluations, read_evaluations
from icot.runs.layout import (
    COMMAND,
    CONFIG,
    ENVIRONMENT,
    EVALUATION,
    STAGES,
    SUMMARY,
    SWEEP_INDEX,
    TRADEOFF_TABLE,
    USAGE,
)
from icot.runs.sweeps import FINISHED, read_index
from icot.tasks.mixed_digits import DIGITS

# Keys in which runs of a series may differ; all other values are equal within it.
IGNORED_IN_SERIES = (*WITHOUT_EFFECT, "seed", "trainer.accelerator")
PRECISION = "trainer.precision"
CORPUS = "task.samples"
REMOVAL = "icot_si"  # the method whose schedule names a run
COUNTED = ("tokens_removed", "examples_seen", "seconds")  # numbers that every summary has


@dataclass(frozen=True)
class Run:
    """A run, read from its directory.

    Attributes:
        folder: the directory.
        cfg: its resolved configuration.
        environment: the content of environment.json: where it ran, and its options by group.
        summary: the content of summary.json; empty if the run has not finished.
        stages: the rows of stages.csv, without empty cells.
        evaluations: the results of ``icot.evaluate``, oldest first.
        tradeoff: the rows of the newest tradeoff.csv; [] if the stages have not been evaluated.
    """

    folder: Path
    cfg: TrainConfig
    environment: dict[str, Any]
    summary: dict[str, Any]
    stages: list[dict[str, float]]
    evaluations: list[KeptEvaluation]
    tradeoff: list[dict[str, Any]]

    @cached_property
    def settings(self) -> dict[str, str]:
        """Every value that affects the result, except the seed, by its dotted key."""
        found = {k: str(v) for k, v in leaves(self.cfg.as_dict()).items()}
        precision = str(self.environment.get("precision") or found[PRECISION])  # auto is not one
        if CORPUS in found:  # by its name: each seed may have one of its own
            found[CORPUS] = Path(found[CORPUS]).name
        return {k: v for k, v in found.items() if not matches(k, IGNORED_IN_SERIES)} | {
            PRECISION: precision
        }

    @cached_property
    def curve(self) -> dict[float, dict[str, float]]:
        """The rows of validated stages by tokens removed, in the order of training.

        A stage that was trained again after a rollback counts once, with its last row.
        """
        found: dict[float, dict[str, float]] = {}
        for row in self.stages:
            if "val_accuracy" in row:
                found.pop(row["tokens_removed"], None)
                found[row["tokens_removed"]] = row
        return found

    @property
    def speed(self) -> float | None:
        """Speed over No CoT of the final weights at their stage; None if not measured."""
        for one in reversed(self.evaluations):
            if "speed_over_no_cot" in one.speed and self._is_of_final_weights(one):
                return float(one.speed["speed_over_no_cot"])
        removed = self.summary.get("tokens_removed")  # a curve of budgets may end elsewhere
        of_run = [p for p in self.tradeoff if not p["baseline"]]
        final = [p for p in of_run if p["tokens_removed"] == removed] or of_run[-1:]
        return final[-1].get("speed") if final else None

    @property
    def majority(self) -> float | None:
        """Exact match of the majority of its samples, in its newest vote; None without one."""
        for one in reversed(self.evaluations):
            if (votes := one.record.get("votes")) and _is_of_own_data(one):
                return float(list(votes["accuracy_by_votes"].values())[-1])
        return None

    @property
    def by_digits(self) -> dict[str, float]:
        """Exact match of the final weights by pair of digit counts, as it was measured last."""
        return {
            row["label"]: row["accuracy"]
            for one in self.evaluations
            if self._is_of_final_weights(one)
            for row in one.record.get("failures", {}).get(DIGITS, ())
        }

    def _is_of_final_weights(self, one: KeptEvaluation) -> bool:
        r = one.record
        at_own_stage = r.get("tokens_removed") == self.summary.get("tokens_removed")
        if r.get("fully_internalized") and self.summary.get("fully_internalized"):
            at_own_stage = True  # the splits' longest chains differ
        last = self.stages[-1]["stage"] if self.stages else None
        return at_own_stage and r.get("stage") == last and _is_of_own_data(one)

    @property
    def finished(self) -> bool:
        """Whether it has finished."""
        return bool(self.summary)

    @property
    def task(self) -> str:
        """Its task, for readers: ``3 × 3 digits``, ``parity``."""
        task = self.cfg.task
        if isinstance(task, MultiplicationConfig):
            chain = "" if task.chain == "long" else f", {task.chain}"
            return f"{task.digits} × {task.digits} digits{chain}"
        values = task.as_dict()
        named = values.get("name") or values.get("dataset") or self.environment.get("task")
        return str(named or values["_target_"])

    @property
    def method(self) -> str:
        """The name of the method's group."""
        return str(self.environment.get("choices", {}).get("method", REMOVAL))

    @property
    def approach(self) -> str:
        """The schedule of stepwise internalization, or the name of another method."""
        if self.method != REMOVAL:
            return self.method
        return str(self.environment.get("schedule") or self.cfg.schedule.kind)

    @property
    def is_baseline(self) -> bool:
        """Whether it removes the same tokens throughout, and is of no other method."""
        is_fixed = isinstance(self.cfg.schedule, FixedScheduleConfig)
        return is_fixed and self.method == REMOVAL

    @property
    def removed(self) -> str:
        """Tokens removed at the end, ``21 of 24``; "" if it has not finished."""
        count, longest = (self.summary.get(key) for key in ("tokens_removed", "longest_cot"))
        return "" if count is None else str(count) if longest is None else f"{count} of {longest}"

    @property
    def remainder(self) -> str:
        """``21 of 24 removed`` if it finished before the whole chain was removed, else "".

        Always "" for a baseline.
        """
        left = self.finished and not self.summary.get("fully_internalized")
        return f"{self.removed} removed" if left and not self.is_baseline else ""

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
        except (OSError, UnicodeDecodeError):
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
        folder: its directory; None if it has not started.
    """

    name: str
    state: str
    command: str
    folder: Path | None = None


class Found(NamedTuple):
    """Runs, the missing runs of their sweeps, messages about files that cannot be read, and the
    evaluations of prompted models.
    """

    runs: list[Run]
    missing: list[Missing]
    unreadable: list[str]
    prompted: Sequence[Prompted] = ()


def find_runs(places: Sequence[Path]) -> Found:
    """The runs at or under some folders; runs that cannot be read are reported and left out.

    Raises:
        RunError: a folder does not exist or holds no run, or none of the runs can be read.
    """
    runs: dict[Path, Run] = {}
    missing: dict[tuple[Path, str], Missing] = {}
    unreadable: dict[str, None] = {}
    prompted: dict[Path, Prompted] = {}
    judged: dict[Path, None] = {}
    for place in places:
        if not place.is_dir():
            raise RunError(f"{place}: no such directory.")
        asked, messages = find_prompted(place)
        prompted |= {one.folder.resolve(): one for one in asked}
        unreadable |= dict.fromkeys(messages)
        marks = (path for name in (ENVIRONMENT, SUMMARY) for path in place.rglob(name))
        folders = sorted(
            {
                path.parent
                for path in marks
                if (path.parent / CONFIG).is_file() and not (path.parent / USAGE).is_file()
            }
        )
        indices = sorted(place.rglob(SWEEP_INDEX))
        judged |= dict.fromkeys(path.resolve() for path in place.rglob(EVALUATION))
        is_empty = not folders and not indices and not asked and not messages
        if is_empty and not (place / EVALUATION).is_file():
            raise RunError(
                f"{place} holds no run: no folder in it has {CONFIG} and {ENVIRONMENT}. A run "
                "directory is what icot.train writes, outputs/... by default."
            )
        for index in indices:
            rows = read_index(index.parent)
            if not rows:
                unreadable[f"{index}: cannot be read as the index of a sweep."] = None
            for row in rows:
                if row["state"] != FINISHED:
                    key = index.parent.resolve(), row["overrides"]
                    missing[key] = _missing(index.parent, row)
        for folder in folders:
            if folder.resolve() in runs:
                continue
            try:
                runs[folder.resolve()], messages = read_run(folder)
            except RunError as error:
                messages = [str(error)]
            unreadable |= dict.fromkeys(messages)
    if not runs and not missing and not prompted:
        raise RunError("no run can be read. " + " ".join(unreadable))
    _add_evaluations_elsewhere(runs, judged)
    return Found(
        list(runs.values()), list(missing.values()), list(unreadable), list(prompted.values())
    )


def _add_evaluations_elsewhere(runs: dict[Path, Run], paths: Iterable[Path]) -> None:
    """Add evaluations that are outside of their runs, as those of a pipeline are."""
    for one in read_evaluations(paths)[0]:
        home = Path(str(one.record.get("run_dir"))).resolve()
        if home in runs and home not in one.folder.parents:
            found = sorted([*runs[home].evaluations, one], key=lambda e: e.evaluated)
            runs[home] = replace(runs[home], evaluations=found)


def read_run(folder: Path) -> tuple[Run, list[str]]:
    """A run, and messages about evaluations that cannot be read.

    Raises:
        RunError: a file of the run itself cannot be read; the message names it.
    """
    summary = _object(folder / SUMMARY)
    for key in COUNTED if summary else ():
        if not isinstance(summary.get(key), int | float):
            raise RunError(f"{folder / SUMMARY}: has no number {key}.")
    stages = _rows(folder / STAGES, ("stage", "tokens_removed"))
    cfg = read_config(folder / CONFIG)
    environment = _object(folder / ENVIRONMENT)
    evaluations, damaged = find_evaluations(folder)
    messages = [f"{path}: cannot be read as an evaluation." for path in damaged]
    tradeoff: list[dict[str, Any]] = []
    of_own_data = [e for e in reversed(evaluations) if _is_of_own_data(e)]
    of_own_data.sort(key=lambda e: e.record.get("budget") is not None)  # stages before budgets
    folders = [e.folder for e in of_own_data]
    for place in (*folders, folder):  # version 0.1.0 kept it in the run directory
        try:
            tradeoff = tradeoff or _tradeoff(place / TRADEOFF_TABLE)
        except RunError as error:
            messages.append(str(error))
    return Run(folder, cfg, environment, summary, stages, evaluations, tradeoff), messages


def _tradeoff(path: Path) -> list[dict[str, Any]]:
    rows = _rows(path, ("tokens_removed", "accuracy", "speed"))
    flags = ("baseline", "dominated")
    return [{**row, **{key: row.get(key) == "True" for key in flags}} for row in rows]


def _missing(sweep: Path, row: dict[str, str]) -> Missing:
    state = f"{row['state']}: {row['error']}" if row["error"] else row["state"]
    folder = (sweep / row["directory"]).resolve() if row["directory"] else None
    return Missing(row["directory"] or row["overrides"], state, row["command"], folder)


def _is_of_own_data(one: KeptEvaluation) -> bool:
    """Whether the examples come from the run's own task rather than from a data file."""
    return str(one.record.get("data", "")).startswith("task ")


def _text(path: Path) -> str:
    """The content of a file, "" if there is none.

    Raises:
        RunError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError):
        raise _unreadable(path) from None


def _object(path: Path) -> dict[str, Any]:
    """A JSON object, {} if there is no file."""
    text = _text(path)
    try:
        found = json.loads(text) if text or path.exists() else {}
    except (ValueError, RecursionError):
        raise _unreadable(path) from None
    if not isinstance(found, dict):
        raise _unreadable(path)
    return found


def _unreadable(path: Path) -> RunError:
    return RunError(f"{path}: cannot be read; it is damaged or of another format.")


def _rows(path: Path, needed: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a table without empty cells, with numbers as floats; [] if there is no file."""
    texts = list(csv.DictReader(StringIO(_text(path), "")))
    rows = [{k: _value(text) for k, text in row.items() if text} for row in texts]
    for key in needed:
        if not all(isinstance(row.get(key), float) for row in rows):
            raise RunError(f"{path}: has a row without a number {key}.")
    return rows


def _value(text: Any) -> Any:
    try:
        return float(text)
    except (TypeError, ValueError):
        return text
