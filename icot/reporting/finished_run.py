"""What is shown at the end of a run: stages, devices, some answers, the accuracy curve."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from icot.evaluation.predictions import Prediction
from icot.reporting.figures import accuracy_by_tokens_removed
from icot.reporting.tables import print_devices, print_examples, print_stages
from icot.runs.layout import FIGURE


def show_finished_run(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    longest_cot: int,
    per_device: Sequence[Mapping[str, Any]],
    predictions: Sequence[Prediction],
    title: str,
    examples: int,
) -> None:
    """Print the tables, and draw the curve if the run was validated.

    Args:
        folder: the run directory, for the curve.
        rows: the rows of stages.csv.
        longest_cot: tokens of the longest chain.
        per_device: the entry of summary.json.
        predictions: the final model's, for the validation split.
        title: the title of the curve.
        examples: the number of correct and wrong answers to show.
    """
    console = Console()
    print_stages(console, rows, longest_cot)
    if len(per_device) > 1:
        print_devices(console, per_device)
    if predictions and rows[-1].get("val_accuracy") is not None:
        accuracy_by_tokens_removed(rows, longest_cot, folder / FIGURE, title)
    if predictions:
        print_examples(console, predictions, examples)
