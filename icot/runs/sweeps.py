"""A sweep: its directory, which a second start finds again, and the one index of its runs.

    python -m icot.train -m +sweep=delta_lambda      runs what is not finished yet

index.csv has a row for each run: its state, directory and overrides, how it ended, and the command
that makes it alone. A run is

    not started, unfinished (it has begun), failed (with the message), finished
"""

import csv
import fcntl
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from icot.runs.directory import read_summary
from icot.runs.layout import SWEEP_INDEX, SWEEP_LOCK
from icot.system.files import explained, replacing

GROUP = "sweep"  # the configuration group whose files name sweeps
NOT_STARTED, UNFINISHED, FAILED, FINISHED = "not started", "unfinished", "failed", "finished"
RESULTS = ("accuracy", "tokens_removed", "examples_seen", "seconds")  # of summary.json
COLUMNS = ("state", "directory", "overrides", *RESULTS, "error", "command")

Row = dict[str, str]


class SweepIndex(Callback):
    """Keeps the index while Hydra runs a sweep; each job's process writes its own row."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Plan: a row for each run, beside those of earlier starts."""
        folder = Path(config.hydra.sweep.dir)
        fixed = [str(text) for text in config.hydra.overrides.task]
        jobs = planned(config.hydra.sweeper.get("params") or {}, fixed)
        with _locked(folder):
            rows = {row["overrides"]: row for row in read_index(folder)}
            for job in jobs:
                rows.setdefault(shlex.join(job), _row(folder, shlex.join(job)))
            _write(folder, list(rows.values()))

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """The run has a directory now."""
        _update(config, "")

    def on_job_end(self, config: DictConfig, job_return: Any, **kwargs: Any) -> None:
        """The run has come to some end."""
        returned = job_return._return_value
        _update(config, "" if returned is None else " ".join(str(returned).split()))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Say what there is, and fail where a run has failed."""
        from rich.console import Console

        from icot.reporting.tables import print_sweep

        folder = Path(config.hydra.sweep.dir)
        rows = read_index(folder)
        console = Console()
        print_sweep(console, rows)
        console.print(f"Sweep: {folder / SWEEP_INDEX}", highlight=False, soft_wrap=True)
        if any(row["state"] == FAILED for row in rows):
            raise SystemExit(1)


def planned(params: Any, overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each run of a sweep, in the order in which Hydra numbers them.

    Args:
        params: what the sweep's file varies, by key.
        overrides: the command line's, which win.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    texts = [f"{key}={value}" for key, value in params.items()]
    parsed = OverridesParser.create().parse_overrides([*texts, *overrides])
    (batch,) = BasicSweeper.split_arguments(parsed, None)
    return batch


def read_index(folder: Path) -> list[Row]:
    """The rows of a sweep's index, if it has one, with their states as the disk has them now."""
    try:
        with (folder / SWEEP_INDEX).open(encoding="utf-8", newline="") as file:
            kept = list(csv.DictReader(file))
        return [_row(folder, r["overrides"], r["directory"], r["error"]) for r in kept]
    except (OSError, ValueError, KeyError, csv.Error):
        return []


def own_directory(config_name: str, overrides: list[str]) -> Path | None:
    """Where the runs of a named sweep go; None where the command line names none or the place.

    The directory's name depends on what all its runs have in common, so that the same command
    finds it again, and one with further values adds to it.
    """
    from hydra import compose

    from icot.runs.resume import digest

    parsed = OverridesParser.create().parse_overrides(overrides)
    named = [o for o in parsed if o.key_or_group == GROUP]
    if not named or any(o.key_or_group == "hydra.sweep.dir" for o in parsed):
        return None
    cfg = compose(config_name, [str(named[0].input_line)], return_hydra_config=True)
    varied = set(cfg.hydra.sweeper.get("params") or {})
    varied |= {o.key_or_group for o in parsed if o.is_sweep_override()}
    common = [str(o.input_line) for o in parsed if o.key_or_group not in varied]
    cfg = compose(config_name, common, return_hydra_config=True)
    name = f"{named[0].value()}_{digest(cfg, tuple(varied))}"
    return Path(cfg.paths.output_root) / "sweeps" / name


def _row(folder: Path, overrides: str, directory: str = "", error: str = "") -> Row:
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
    named = any(text.lstrip("+").startswith(f"{GROUP}=") for text in shlex.split(overrides))
    command = "python -m icot.train -m" if named else "python -m icot.train"
    return {
        "state": state,
        "directory": directory,
        "overrides": overrides,
        **{key: str(summary.get(key, "")) for key in RESULTS},
        "error": error,
        "command": f"{command} {overrides}",
    }


def _update(config: DictConfig, error: str) -> None:
    """Write the row of the run that this process is at."""
    if config.hydra.mode != RunMode.MULTIRUN:
        return
    folder = Path(config.hydra.sweep.dir)
    overrides = shlex.join(map(str, config.hydra.overrides.task))
    with _locked(folder):
        rows = {row["overrides"]: row for row in read_index(folder)}
        row = _row(folder, overrides, str(config.hydra.sweep.subdir), error)
        rows[overrides] = row
        # The same run by a command in other words is one run.
        kept = [r for r in rows.values() if r is row or r["directory"] != row["directory"]]
        _write(folder, kept)


def _write(folder: Path, rows: list[Row]) -> None:
    with replacing(folder / SWEEP_INDEX) as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time change the index."""
    with explained(folder / SWEEP_LOCK):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / SWEEP_LOCK).open("w")
    with file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
