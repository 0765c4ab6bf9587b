"""The runs under some folders, as a report reads them."""

import csv
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from icot.config.kept import read_config
from icot.config.schema import TrainConfig
from icot.errors import RunError
from icot.reporting.prompted import Prompted, find_prompted
from icot.reporting.runs import Missing, Run, is_of_own_data
from icot.runs.evaluations import find_evaluations, read_evaluations
from icot.runs.layout import (
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

COUNTED = ("tokens_removed", "examples_seen", "seconds")  # numbers that every summary has


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


def read_run(folder: Path, above: frozenset[Path] = frozenset()) -> tuple[Run, list[str]]:
    """A run, and messages about evaluations that cannot be read.

    Args:
        folder: its directory.
        above: directories of runs that build on it, directly or not.

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
    of_own_data = [e for e in reversed(evaluations) if is_of_own_data(e)]
    of_own_data.sort(key=lambda e: e.record.get("budget") is not None)  # stages before budgets
    folders = [e.folder for e in of_own_data]
    for place in (*folders, folder):  # version 0.1.0 kept it in the run directory
        try:
            tradeoff = tradeoff or _tradeoff(place / TRADEOFF_TABLE)
        except RunError as error:
            messages.append(str(error))
    built_on = _built_on(folder, cfg, above | {folder.resolve()})
    found = Run(folder, cfg, environment, summary, stages, evaluations, tradeoff, built_on)
    return found, messages


def _built_on(folder: Path, cfg: TrainConfig, above: frozenset[Path]) -> dict[str, Run]:
    """The readable runs that the method's keys name; those of a moved pipeline lie side by side.

    Runs that name each other in a circle, which no training makes, are read once each.
    """
    found = {}
    for key, value in cfg.method.arguments().items():
        for place in (Path(str(value)), folder.parent / Path(str(value)).name):
            if (place / CONFIG).is_file() and place.resolve() not in above:
                with suppress(RunError):
                    found[f"method.{key}"] = read_run(place, above)[0]
                break
    return found


def _tradeoff(path: Path) -> list[dict[str, Any]]:
    rows = _rows(path, ("tokens_removed", "accuracy", "speed"))
    flags = ("baseline", "dominated")
    return [{**row, **{key: row.get(key) == "True" for key in flags}} for row in rows]


def _missing(sweep: Path, row: dict[str, str]) -> Missing:
    state = f"{row['state']}: {row['error']}" if row["error"] else row["state"]
    folder = (sweep / row["directory"]).resolve() if row["directory"] else None
    return Missing(row["directory"] or row["overrides"], state, row["command"], folder)


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
