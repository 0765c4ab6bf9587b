"""The run's record at W&B: its stages and some predictions as tables, and its accuracy curve.

final/accuracy, final/seconds, ...    the numbers of summary.json, in W&B's summary
stages                                one row per finished stage
predictions                           wrong and correct ones
pictures/accuracy_by_tokens_removed
"""

import csv
import json
from itertools import islice
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from icot.runs.directory import read_summary
from icot.runs.layout import FIGURE, PREDICTIONS, STAGES

RUN = "run"  # key of the run's facts in W&B's configuration
FINAL = "final"
STAGE_TABLE, PREDICTIONS_TABLE = "stages", "predictions"
CURVE = "pictures/accuracy_by_tokens_removed"


class WandbRecord(Callback):
    """Logs the record at the end of training. Put it after ``RunRecord``.

    Args:
        logger: of the run.
        folder: the run directory.
        examples: the most predictions to log of each kind, wrong and correct.
    """

    def __init__(self, logger: WandbLogger, folder: Path, examples: int = 20) -> None:
        self.logger, self.folder, self.examples = logger, folder, examples

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the record."""
        summary = read_summary(self.folder)
        if not trainer.is_global_zero or not summary:
            return
        import wandb

        numbers = {k: v for k, v in summary.items() if isinstance(v, int | float)}
        self.logger.experiment.summary.update({f"{FINAL}/{k}": v for k, v in numbers.items()})
        values: dict[str, Any] = {STAGE_TABLE: _table(self._stages())}
        if predictions := self._predictions():
            values[PREDICTIONS_TABLE] = _table(predictions)
        if (self.folder / FIGURE).is_file():
            values[CURVE] = wandb.Image(str(self.folder / FIGURE))
        self.logger.log_metrics(values, step=trainer.global_step)

    def _stages(self) -> list[dict[str, Any]]:
        with (self.folder / STAGES).open(encoding="utf-8", newline="") as file:
            return [
                {key: None if text == "" else float(text) for key, text in row.items()}
                for row in csv.DictReader(file)
            ]

    def _predictions(self) -> list[dict[str, Any]]:
        path = self.folder / PREDICTIONS
        if not path.is_file():
            return []
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        wrong = islice((row for row in rows if not row["correct"]), self.examples)
        right = islice((row for row in rows if row["correct"]), self.examples)
        return [*wrong, *right]


def _table(rows: list[dict[str, Any]]) -> Any:
    import wandb

    columns: list[str | int] = list(rows[0])
    return wandb.Table(columns=columns, data=[list(row.values()) for row in rows])
