"""What a report knows of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from icot.config.identity import WITHOUT_EFFECT, leaves, matches
from icot.config.options import FixedScheduleConfig
from icot.config.schema import TrainConfig
from icot.config.task_options import MultiplicationConfig
from icot.runs.evaluations import KeptEvaluation
from icot.runs.layout import COMMAND, CONFIG, SUMMARY
from icot.tasks.mixed_digits import DIGITS

# Keys in which runs of a series may differ; all other values are equal within it.
IGNORED_IN_SERIES = (*WITHOUT_EFFECT, "seed", "trainer.accelerator")
PRECISION = "trainer.precision"
CORPUS = "task.samples"
REMOVAL = "icot_si"  # the method whose schedule names a run


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
        built_on: the runs whose weights it began with or learned from, by the key that names them.
    """

    folder: Path
    cfg: TrainConfig
    environment: dict[str, Any]
    summary: dict[str, Any]
    stages: list[dict[str, float]]
    evaluations: list[KeptEvaluation]
    tradeoff: list[dict[str, Any]]
    built_on: Mapping[str, "Run"] = field(default_factory=dict)

    @cached_property
    def settings(self) -> dict[str, str]:
        """Every value that affects the result, except the seed, by its dotted key."""
        found = {k: str(v) for k, v in leaves(self.cfg.as_dict()).items()}
        precision = str(self.environment.get("precision") or found[PRECISION])  # auto is not one
        if CORPUS in found:  # by its name: each seed may have one of its own
            found[CORPUS] = Path(found[CORPUS]).name
        for key, run in self.built_on.items():  # likewise each seed
            found[key] = run.approach
            found |= {f"{key}.{k}": v for k, v in run.settings.items()}
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
    def trainings(self) -> dict[Path, "Run"]:
        """The finished trainings that its weights come from, its own among them, by directory."""
        found = {self.folder.resolve(): self} if self.finished else {}
        for run in self.built_on.values():
            found |= run.trainings
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
            if (votes := one.record.get("votes")) and is_of_own_data(one):
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
        return at_own_stage and r.get("stage") == last and is_of_own_data(one)

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


def is_of_own_data(one: KeptEvaluation) -> bool:
    """Whether the examples come from the run's own task rather than from a data file."""
    return str(one.record.get("data", "")).startswith("task ")
