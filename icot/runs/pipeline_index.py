"""The index of a pipeline's steps, ``steps.csv``, kept as they go on.

The states are those of a sweep's runs: not started, unfinished, failed, finished.
"""

import csv
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from icot.config.identity import WITHOUT_EFFECT, digest
from icot.config.section import Section
from icot.errors import RunError
from icot.runs.layout import STEPS_INDEX, STEPS_LOCK
from icot.runs.pipelines import Step
from icot.runs.sweeps import FAILED, FINISHED, NOT_STARTED, UNFINISHED
from icot.system.files import explain_refusal, replace_file
from icot.system.locks import lock_file

COLUMNS = (
    "step", "state", "result", "directory", "needs", "error", "job", "settings", "command",
)  # fmt: skip

Row = dict[str, str]


class PipelineIndex:
    """A pipeline's index, on disk from the beginning.

    Args:
        folder: the pipeline's directory.
        steps: in order.
        configs: of each step.

    Attributes:
        steps: by name.
        rows: by name; ``job`` is the step's number in a cluster's queue, ``settings`` the digest of
            what its directory was made with.

    Raises:
        RunError: a step has finished with other settings, and steps that use it have begun; or the
            file cannot be written.
    """

    def __init__(self, folder: Path, steps: Sequence[Step], configs: Mapping[str, Section]) -> None:
        self.folder, self.steps = folder, {step.name: step for step in steps}
        self._settings = {n: digest(cfg, changeable=WITHOUT_EFFECT) for n, cfg in configs.items()}
        earlier = read_steps(folder)
        self.rows: dict[str, Row] = {}
        for name, step in self.steps.items():
            row = earlier.get(name, {})
            made_with = row.get("settings") if step.is_finished(folder) else None
            if made_with not in (None, self._settings[name]):
                self._check_unused(name, row)
            settings = made_with or self._settings[name]
            self.rows[name] = self._row(name, settings, row.get("error", ""), row.get("job", ""))
        self._write()

    def is_finished(self, name: str) -> bool:
        """Whether a step has finished, with the settings that it has now."""
        return self.rows[name]["state"] == FINISHED

    def begin(self, name: str, job: str = "") -> None:
        """A step begins, or has been interrupted."""
        with explain_refusal(self.folder / name):
            (self.folder / name).mkdir(exist_ok=True)
        self._put(name, self.rows[name]["settings"], "", job)

    def end(self, name: str, error: str = "") -> None:
        """A step has ended; with an error, or as it should."""
        settings = self.rows[name]["settings"] if error else self._settings[name]
        self._put(name, settings, error, "")

    def _put(self, name: str, settings: str, error: str, job: str) -> None:
        self.rows[name] = self._row(name, settings, error, job)
        self._write()

    def _row(self, name: str, settings: str, error: str, job: str) -> Row:
        step = self.steps[name]
        state = UNFINISHED if (self.folder / name).is_dir() else NOT_STARTED
        if step.is_finished(self.folder) and settings == self._settings[name]:
            state, error = FINISHED, ""
        elif error:
            state = FAILED
        return {
            "step": name,
            "state": state,
            "result": step.result(self.folder),
            "directory": name,
            "needs": " ".join(step.needs),
            "error": error,
            "job": job,
            "settings": settings,
            "command": step.program(self.folder),
        }

    def _check_unused(self, name: str, row: Row) -> None:
        begun = [
            other.name
            for other in self.steps.values()
            if name in other.needs and (self.folder / other.name).is_dir()
        ]
        if begun:
            raise RunError(
                f"{self.folder}: the step {name} has finished with other settings, and "
                f"{' and '.join(begun)} used it. Its command was: {row['command']}. Choose another "
                "directory for the new settings, out=..."
            )

    def _write(self) -> None:
        with replace_file(self.folder / STEPS_INDEX) as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows.values())


def read_steps(pipeline: Path) -> dict[str, Row]:
    """The rows of a pipeline's index by step, as they were written; empty if there is none."""
    try:
        with (pipeline / STEPS_INDEX).open(encoding="utf-8", newline="") as file:
            return {row["step"]: {key: row[key] for key in COLUMNS} for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, csv.Error):
        return {}


def lock_pipeline(pipeline: Path) -> AbstractContextManager[bool]:
    """Let one process at a time work on a pipeline.

    Raises:
        RunError: another process does, or the directory cannot be written.
    """

    def explain(holder: str) -> str:
        return (
            f"{pipeline}: another process is working on this pipeline ({holder}). Wait for its end "
            "or stop it, or set another directory, out=..."
        )

    return lock_file(pipeline / STEPS_LOCK, explain)
