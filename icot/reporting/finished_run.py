"""What a run shows when it has ended: its stages, its devices, some answers, its curve."""

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
    """Print the tables, and draw the curve where the run was validated.

    Args:
        folder: the run directory; the curve goes there.
        rows: of stages.csv.
        longest_cot: tokens of the longest chain.
        per_device: what each device has done, of summary.json.
        predictions: of the final model for the validation split.
        title: of the curve.
        examples: right and wrong answers shown.
    """
    console = Console()
    print_stages(console, rows, longest_cot)
    if len(per_device) > 1:
        print_devices(console, per_device)
    if predictions:
        accuracy_by_tokens_removed(rows, longest_cot, folder / FIGURE, title)
        print_examples(console, predictions, examples)
