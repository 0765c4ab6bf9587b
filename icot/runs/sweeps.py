"""The index of a sweep's runs.

    python -m icot.train -m +sweep=delta_lambda      starts or resumes unfinished runs

index.csv has one row per run: its state, directory and overrides, its results, and the command that
repeats it alone. The states are

    not started, unfinished (it has begun), failed (with the message), finished
"""

import csv
import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from icot.config.command_line import SWEEP
from icot.runs.directory import read_summary
from icot.runs.layout import SWEEP_INDEX, SWEEP_LOCK
from icot.system.files import replace_file
from icot.system.locks import lock_file

NOT_STARTED, UNFINISHED, FAILED, FINISHED = "not started", "unfinished", "failed", "finished"
RESULTS = ("accuracy", "tokens_removed", "examples_seen", "seconds")  # of summary.json
COLUMNS = ("state", "directory", "overrides", *RESULTS, "error", "command")

Row = dict[str, str]


def plan_jobs(params: Any, overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each run of a sweep, in the order in which Hydra numbers them.

    Args:
        params: the values that the sweep's file varies, by key.
        overrides: of the command line; they take precedence.
    """
    texts = [f"{key}={value}" for key, value in params.items()]
    parsed = OverridesParser.create().parse_overrides([*texts, *overrides])
    (batch,) = BasicSweeper.split_arguments(parsed, None)
    return batch


def read_index(folder: Path) -> list[Row]:
    """The rows of a sweep's index, if it has one, with their current states."""
    try:
        with (folder / SWEEP_INDEX).open(encoding="utf-8", newline="") as file:
            kept = list(csv.DictReader(file))
        return [index_row(folder, r["overrides"], r["directory"], r["error"]) for r in kept]
    except (OSError, ValueError, KeyError, csv.Error):
        return []


def index_row(folder: Path, overrides: str, directory: str = "", error: str = "") -> Row:
    """A run's row, its state read from its directory."""
    summary = read_summary(folder / directory) if directory else {}
    if summary:
        state = FINISHED
    elif error:
        state = FAILED
    elif directory:
        state = UNFINISHED
    else:
        state = NOT_STARTED
    is_named_sweep = any(
        text.lstrip("+").startswith(f"{SWEEP}=") for text in shlex.split(overrides)
    )
    command = "python -m icot.train -m" if is_named_sweep else "python -m icot.train"
    return {
        "state": state,
        "directory": directory,
        "overrides": overrides,
        **{key: str(summary.get(key, "")) for key in RESULTS},
        "error": error,
        "command": f"{command} {overrides}",
    }


def write_index(folder: Path, rows: list[Row]) -> None:
    """Replace the index."""
    with replace_file(folder / SWEEP_INDEX) as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def lock_index(folder: Path) -> AbstractContextManager[bool]:
    """Let one process at a time change the index."""
    return lock_file(folder / SWEEP_LOCK)
