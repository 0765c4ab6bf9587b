"""Run directories made without training: the real configuration, and numbers by hand."""

import csv
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from icot.config.command_line import compose_config
from icot.config.identity import put
from icot.config.schema import TrainConfig
from icot.runs.directory import describe
from icot.runs.sweeps import index_row, write_index

LONGEST = 8  # tokens of the longest chain


@cache
def composed(experiment: str) -> Any:
    return compose_config("train", [f"experiment={experiment}"])


def make_run(
    folder: Path,
    experiment: str = "figure3_full_cpu",
    changes: Mapping[str, Any] | None = None,
    *,
    accuracy: float | None = 0.5,
    removed: int = LONGEST,
    curve: tuple[tuple[int, float], ...] = (),
    **facts: Any,
) -> Path:
    """What icot.train would have left in ``folder``, without weights.

    Args:
        folder: the run directory.
        experiment: of the configuration.
        changes: further values of it, by dotted key.
        accuracy: at the end; None for a run that has not ended.
        removed: tokens removed at the end.
        curve: tokens removed and accuracy at the end of each stage; none is the end alone.
        facts: of environment.json.
    """
    values = composed(experiment).as_dict()
    for key, value in (changes or {}).items():
        put(values, key, value)
    cfg = TrainConfig.model_validate(values)
    known = {"experiment": experiment, "sweep": None, "parameters": 400_000, **facts}
    machine = {"precision": "32-true", "processor": "a processor", "threads": 1, **facts}
    words = [f"experiment={experiment}", *(f"{k}={v}" for k, v in (changes or {}).items())]
    describe(folder, cfg, " ".join(["python -m icot.train", *words]), known, machine, step=0)
    stages = [
        {"stage": i, "tokens_removed": r, "step": i, "val_accuracy": a}
        for i, (r, a) in enumerate(curve or ((removed, accuracy or 0.0),))
    ]
    with (folder / "stages.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(stages[0]))
        writer.writeheader()
        writer.writerows(stages)
    if accuracy is not None:
        summary = {
            "accuracy": accuracy,
            "accuracy_low": max(0.0, accuracy - 0.1),
            "accuracy_high": min(1.0, accuracy + 0.1),
            "tokens_removed": removed,
            "longest_cot": LONGEST,
            "fully_internalized": removed >= LONGEST,
            "examples_seen": 640,
            "tokens_seen": 208,
            "seconds": 60.0,
        }
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def make_index(sweep: Path, *rows: tuple[str, str, str]) -> Path:
    """A sweep's index of overrides, directory and error each."""
    sweep.mkdir(parents=True, exist_ok=True)
    write_index(sweep, [index_row(sweep, *row) for row in rows])
    return sweep
