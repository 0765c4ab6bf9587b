"""The Hydra callback that keeps a sweep's index, ``icot.runs.sweeps``, while the sweep runs."""

import shlex
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from icot.reporting.tables import print_sweep
from icot.runs.layout import SWEEP_INDEX
from icot.runs.sweeps import FAILED, index_row, lock_index, plan_jobs, read_index, write_index


class SweepIndex(Callback):
    """Keeps the index while Hydra runs a sweep; each job's process writes its own row."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Plan: a row for each run, beside those of earlier starts."""
        folder = Path(config.hydra.sweep.dir)
        fixed = [str(text) for text in config.hydra.overrides.task]
        jobs = plan_jobs(config.hydra.sweeper.get("params") or {}, fixed)
        with lock_index(folder):
            rows = {row["overrides"]: row for row in read_index(folder)}
            for job in jobs:
                rows.setdefault(shlex.join(job), index_row(folder, shlex.join(job)))
            write_index(folder, list(rows.values()))

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the directory of a run that starts."""
        _update(config, "")

    def on_job_end(self, config: DictConfig, job_return: Any, **kwargs: Any) -> None:
        """Write how a run has ended."""
        returned = job_return._return_value
        _update(config, "" if returned is None else " ".join(str(returned).split()))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print where the sweep is, and fail if a run has failed."""
        folder = Path(config.hydra.sweep.dir)
        rows = read_index(folder)
        console = Console()
        print_sweep(console, rows)
        console.print(f"Sweep: {folder / SWEEP_INDEX}", highlight=False, soft_wrap=True)
        if any(row["state"] == FAILED for row in rows):
            raise SystemExit(1)


def _update(config: DictConfig, error: str) -> None:
    """Write the row of this process's run."""
    if config.hydra.mode != RunMode.MULTIRUN:
        return
    folder = Path(config.hydra.sweep.dir)
    overrides = shlex.join(map(str, config.hydra.overrides.task))
    with lock_index(folder):
        rows = {row["overrides"]: row for row in read_index(folder)}
        row = index_row(folder, overrides, str(config.hydra.sweep.subdir), error)
        rows[overrides] = row
        # The same run by a command in other words is one run.
        kept = [r for r in rows.values() if r is row or r["directory"] != row["directory"]]
        write_index(folder, kept)
