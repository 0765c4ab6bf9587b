"""What a run directory says of its run: stages.csv, summary.json and, at the end, words and a plot.

stages.csv     one row per finished stage, written as soon as it has ended
summary.json   the run in numbers
predictions.jsonl   what the final model wrote for the validation split
accuracy_by_tokens_removed.png
"""

import csv
import json
import time
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from rich.console import Console

from icot.evaluation.predictions import write_predictions
from icot.reporting.figures import accuracy_by_tokens_removed
from icot.reporting.tables import print_devices, print_examples, print_stages
from icot.runs.layout import FIGURE, PREDICTIONS, STAGES, SUMMARY
from icot.schedule import Stage
from icot.system.files import replacing, write_text
from icot.training.callbacks.device_use import DeviceUse
from icot.training.callbacks.stages import StageCallback, datamodule_of, find
from icot.training.callbacks.validation_accuracy import ValidationAccuracy

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


class RunRecord(StageCallback):
    """Writes the record. Put it behind ``ValidationAccuracy``.

    Args:
        folder: the run directory.
        title: what the plot is called.
        examples: right and wrong answers shown at the end.
        facts: what is known before training and belongs into the summary.
    """

    def __init__(
        self,
        folder: str | Path,
        title: str = "",
        examples: int = 3,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.folder, self.title, self.examples = Path(folder), title, examples
        self.facts = dict(facts or {})
        self.rows: list[dict[str, Any]] = []
        self._seconds_before = 0.0
        self._begun: float | None = None

    @property
    def seconds(self) -> float:
        """Wall time of the training so far, validation included."""
        running = 0.0 if self._begun is None else time.monotonic() - self._begun
        return self._seconds_before + running

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and drop what a resumed run is going to write again."""
        self._begun = time.monotonic()
        if self.rows or (self.folder / STAGES).is_file():
            self._write_stages(trainer)

    def on_stage_end(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        """Add the stage's row."""
        self.rows.append(
            {
                "stage": stage.index,
                "tokens_removed": stage.tokens_removed,
                "step": trainer.global_step,
                "examples_seen": datamodule_of(trainer).examples_seen(stage.batches),
                "tokens_seen": datamodule_of(trainer).tokens_on_all_devices(),
                "seconds": round(self.seconds, 3),
                **_measured(trainer),
                "epoch": trainer.current_epoch,
                "batches": stage.batches_in_stage,
            }
        )
        self._write_stages(trainer)

    def _write_stages(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            with replacing(self.folder / STAGES) as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(self.rows)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the summary and the plot, show stages and examples."""
        dropped = datamodule_of(trainer).dropped_on_all_devices()
        use = find(trainer, DeviceUse)
        per_device = [] if use is None else use.measured(trainer)
        if not trainer.is_global_zero or not self.rows:
            return
        self.rows[-1].update(_measured(trainer))  # the end of training has scored all examples
        self._write_stages(trainer)
        validation = find(trainer, ValidationAccuracy)
        datamodule, last = datamodule_of(trainer), self.rows[-1]
        longest = datamodule.longest_cot
        summary: dict[str, Any] = {
            **self.facts,
            "accuracy": last.get("val_accuracy"),
            "accuracy_low": last.get("val_accuracy_low"),
            "accuracy_high": last.get("val_accuracy_high"),
            "token_accuracy": last.get("val_token_accuracy"),
            "perplexity": last.get("val_perplexity"),
            "validation_examples": last.get("val_examples"),
            "tokens_removed": last["tokens_removed"],
            "longest_cot": longest,
            "fully_internalized": last["tokens_removed"] >= longest,
            "stages": len(self.rows),
            "steps": trainer.global_step,
            "effective_batch_size": datamodule.effective_batch_size(trainer),
            "devices": trainer.world_size,
            "epochs": trainer.current_epoch,
            "examples_seen": last["examples_seen"],
            "tokens_seen": last.get("tokens_seen"),
            "examples_dropped_as_too_long": dropped,
            "seconds": round(self.seconds, 3),
            "per_device": per_device,
        }
        console = Console()
        print_stages(console, self.rows, longest)
        if trainer.world_size > 1:
            print_devices(console, per_device)
        if validation is not None and validation.latest.predictions:
            predictions = validation.latest.predictions
            write_predictions(self.folder / PREDICTIONS, predictions)
            accuracy_by_tokens_removed(self.rows, longest, self.folder / FIGURE, self.title)
            print_examples(console, predictions, self.examples)
        # The summary comes last: where it is, the run is complete.
        write_text(self.folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
        console.print(f"Run directory: {self.folder}", highlight=False, soft_wrap=True)

    def state_dict(self) -> dict[str, Any]:
        """Rows so far, and the time they took."""
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.rows, self._seconds_before = list(state_dict["rows"]), state_dict["seconds"]


def _measured(trainer: Trainer) -> dict[str, Any]:
    """The newest validation, as columns."""
    validation = find(trainer, ValidationAccuracy)
    if validation is None or validation.stage is None:
        return {}
    result = validation.latest
    low, high = result.interval
    return {
        "val_accuracy": round(result.accuracy, 6),
        "val_token_accuracy": _rounded(result.token_accuracy),
        "val_perplexity": _rounded(result.perplexity),
        "val_accuracy_low": round(low, 6),
        "val_accuracy_high": round(high, 6),
        "val_examples": result.n,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
