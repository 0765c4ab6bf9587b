"""metrics.csv: one row per logged step, written at once.

    step,epoch,cot/stage,cot/tokens_removed,train/loss,val/accuracy
    49,0,1.0,2.0,0.7310,

A resumed run keeps the rows up to its checkpoint and writes the later ones again, so that no row is
missing or duplicated.
"""

import csv
from collections.abc import Mapping
from math import isnan
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from icot.system.files import explain_refusal, replace_file

LEADING_COLUMNS = ("step", "epoch")  # the others follow by name


class MetricsFile(Logger):
    """Appends rows to a CSV file; only rank zero writes.

    Args:
        path: the file.

    Attributes:
        rows: the number of rows in the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows = 0
        self._columns: list[str] = []

    @rank_zero_only
    def keep(self, rows: int) -> None:
        """Keep the file's first ``rows`` rows and drop the others.

        Raises:
            RunError: the file cannot be written.
        """
        kept = self._read()[:rows]
        self._columns = sorted({name for row in kept for name in row}, key=_order)
        self.rows = len(kept)
        if kept or self.path.is_file():
            self._rewrite(kept)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row; the field of a value that is not a number stays empty.

        Raises:
            RunError: the file cannot be written.
        """
        row = {k: str(v) for k, v in metrics.items() if not isnan(v)}
        row["step"] = str(step)
        if any(name not in self._columns for name in row):
            kept = self._read()[: self.rows]
            self._columns = sorted({*self._columns, *row}, key=_order)
            self._rewrite([*kept, row])
        else:
            with (
                explain_refusal(self.path),
                self.path.open("a", encoding="utf-8", newline="") as file,
            ):
                csv.DictWriter(file, self._columns).writerow(row)
        self.rows += 1

    def _read(self) -> list[dict[str, str]]:
        """The rows of the file, without empty fields."""
        if not self.path.is_file():
            return []
        with self.path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            return [{k: v for k, v in row.items() if k and v} for row in rows]

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        with replace_file(self.path) as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)

    @property
    def name(self) -> str:
        """Empty: the file is in the run directory itself."""
        return ""

    @property
    def version(self) -> str:
        """Empty."""
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml has them."""


def _order(column: str) -> tuple[int, str]:
    leading = LEADING_COLUMNS
    return (leading.index(column), "") if column in leading else (len(leading), column)
