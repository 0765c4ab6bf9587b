"""The record in a run directory: stages.csv, summary.json and the final predictions.

stages.csv          one row per finished stage, written when it ends
summary.json        the results of the run
predictions.jsonl   the final model's predictions for the validation split
"""

import csv
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from lightning import LightningModule, Trainer

from icot.evaluation.predictions import Prediction, write_predictions
from icot.runs.layout import PREDICTIONS, STAGES, SUMMARY
from icot.schedule import Stage
from icot.system.files import replace_file, write_text
from icot.training.callbacks.clock import clock_of
from icot.training.callbacks.device_use import DeviceUse
from icot.training.callbacks.stages import Stages
from icot.training.hooks import RunCallback, Validated, datamodule_of, find
from icot.training.lightning_internals import callbacks_of

COLUMNS = (
    "stage",
    "tokens_removed",
    "step",
    "examples_seen",
    "tokens_seen",
    "seconds",
    "val_accuracy",
    "val_token_accuracy",
    "val_perplexity",
    "val_accuracy_low",
    "val_accuracy_high",
    "val_examples",
    "epoch",
    "batches",
)
SCORES = ("accuracy", "accuracy_low", "accuracy_high", "token_accuracy", "perplexity")


class Show(Protocol):
    """Prints and plots a run at its end, before the summary is written."""

    def __call__(
        self,
        *,
        folder: Path,
        rows: list[dict[str, Any]],
        longest_cot: int,
        per_device: list[dict[str, Any]],
        predictions: list[Prediction],
    ) -> object:
        """Show the run.

        Args:
            folder: the run directory.
            rows: the rows of stages.csv.
            longest_cot: tokens of the longest chain.
            per_device: the figures of each device.
            predictions: the final model's, for the validation split.
        """


class RunRecord(RunCallback):
    """Writes the record. Put it after ``ValidationAccuracy`` and ``Stages``.

    Args:
        folder: the run directory.
        facts: facts known before training, for the summary.
        show: shows the run at its end; None shows nothing.
        measures: before the names of scores, where they are not the method's result: the columns of
            stages.csv are then ``val_mind_reading_accuracy`` ..., and ``accuracy`` is null.
    """

    state_key = "run_record"

    def __init__(
        self,
        folder: str | Path,
        facts: dict[str, Any] | None = None,
        show: Show | None = None,
        measures: str = "",
    ) -> None:
        self.folder, self.facts, self.show = Path(folder), dict(facts or {}), show
        self.measures = measures
        self.rows: list[dict[str, Any]] = []
        self._newest: Validated | None = None
        self._seconds_before = 0.0
        self._begun: float | None = None

    @property
    def seconds(self) -> float:
        """Wall time of training so far, including validation."""
        running = 0.0 if self._begun is None else time.monotonic() - self._begun
        return self._seconds_before + running

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and drop rows that a resumed run will write again."""
        self._begun = time.monotonic()
        if self.rows or (self.folder / STAGES).is_file():
            self._write_stages(trainer)

    def on_validated(self, trainer: Trainer, module: LightningModule, validated: Validated) -> None:
        """Keep the result for the stage's row."""
        self._newest = validated

    def on_stage_end(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        """Add the stage's row."""
        clock = clock_of(trainer)
        self.rows.append(
            {
                "stage": stage.index,
                "tokens_removed": stage.tokens_removed,
                "step": trainer.global_step,
                "examples_seen": datamodule_of(trainer).examples_seen(clock.batches),
                "tokens_seen": clock.on_all_devices(clock.tokens),
                "seconds": round(self.seconds, 3),
                **self._scores(),
                "epoch": trainer.current_epoch,
                "batches": stage.batches_in_stage,
            }
        )
        self._write_stages(trainer)

    def _write_stages(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            with replace_file(self.folder / STAGES) as file:
                renamed = {f"val_{name}": f"val_{self.measures}{name}" for name in SCORES}
                columns = [renamed.get(name, name) for name in COLUMNS]
                writer = csv.DictWriter(file, columns, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(self.rows)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the predictions and the summary, and show the run."""
        clock, stages = clock_of(trainer), find(trainer, Stages)
        if stages is None:  # the whole run is one stage
            stage = replace(datamodule_of(trainer).stage, batches_in_stage=clock.batches)
            self.rows.clear()
            self.on_stage_end(trainer, pl_module, stage)
        dropped = clock.on_all_devices(clock.dropped)
        use = find(trainer, DeviceUse)
        per_device = [] if use is None else use.collect(trainer)
        if not trainer.is_global_zero or not self.rows:
            return
        if stages is None or (stages.stage is not None and stages.stage.batches_in_stage > 0):
            # Epochs begun; Lightning's count lacks the last where a run is resumed at its very end.
            self.rows[-1]["epoch"] = -(-clock.batches // int(trainer.num_training_batches))
        self.rows[-1].update(self._scores())  # the end of training has scored all examples
        self._write_stages(trainer)
        datamodule, last = datamodule_of(trainer), self.rows[-1]
        longest = datamodule.longest_cot
        summary: dict[str, Any] = {
            **self.facts,
            "accuracy": None,
            **{f"{self.measures}{n}": last.get(f"val_{self.measures}{n}") for n in SCORES},
            "validation_examples": last.get("val_examples"),
            "tokens_removed": last["tokens_removed"],
            "longest_cot": longest,
            "fully_internalized": last["tokens_removed"] >= longest,
            "stages": len(self.rows),
            "steps": trainer.global_step,
            "effective_batch_size": datamodule.effective_batch_size(trainer),
            "devices": trainer.world_size,
            "epochs": clock.batches // int(trainer.num_training_batches),  # complete ones
            "examples_seen": last["examples_seen"],
            "tokens_seen": last.get("tokens_seen"),
            "examples_dropped_as_too_long": dropped,
            "seconds": round(self.seconds, 3),
            "per_device": per_device,
        }
        for callback in callbacks_of(trainer):
            if isinstance(callback, RunCallback):
                summary |= callback.summary_part()
        predictions = [] if self._newest is None else self._newest.result.predictions
        if predictions:
            write_predictions(self.folder / PREDICTIONS, predictions)
        if self.show is not None:
            self.show(
                folder=self.folder,
                rows=self.rows,
                longest_cot=longest,
                per_device=per_device,
                predictions=predictions,
            )
        # The summary is written last: if it exists, the run is complete.
        write_text(self.folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
        print(f"Run directory: {self.folder}", flush=True)

    def _scores(self) -> dict[str, Any]:
        """The columns of the newest validation."""
        if self._newest is None:
            return {}
        result = self._newest.result
        low, high = result.interval
        scores = (result.accuracy, low, high, result.token_accuracy, result.perplexity)
        named = {f"val_{self.measures}{n}": _round(s) for n, s in zip(SCORES, scores, strict=True)}
        return {**named, "val_examples": result.n}

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, and the training time."""
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.rows, self._seconds_before = list(state_dict["rows"]), state_dict["seconds"]


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
