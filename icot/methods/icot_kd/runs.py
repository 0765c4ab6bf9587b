"""The runs that a training of ICoT-KD builds on: teacher, student, emulator."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from icot.errors import ConfigError
from icot.evaluation.loading import MakeModel, restore_weights
from icot.methods.base import ModuleParts
from icot.models.introspection import config_of
from icot.runs.checkpoints import select_stage
from icot.runs.kept_run import KeptRun

SHAPE = ("num_hidden_layers", "hidden_size")
# Keys of a task in which runs may differ that build on each other: sizes, seeds, places.
FREE = ("size", "seed", "easy", "file", "data_dir", "on_bad_line", "held_out", "name", "revision")


def restore(
    key: str,
    folder: str,
    stage: str,
    *,
    parts: ModuleParts | None = None,
    make: MakeModel | None = None,
    method: str = "",
) -> nn.Module:
    """The model of another run, on the CPU.

    Args:
        key: of the configuration that names the run, for messages.
        folder: its directory.
        stage: final or best.
        parts: of this run, which the other must fit; None checks nothing.
        make: as in ``icot.evaluation.loading.restore_weights``.
        method: that the run must have been trained by; "" is explicit CoT, a teacher's.

    Raises:
        ConfigError: it is not such a run, or of another task, tokenizer or shape.
        RunError, ModelError: it cannot be read.
    """
    if not Path(folder).is_dir():
        raise ConfigError([f"method.{key}={folder}: no such run directory"])
    run = KeptRun(folder)
    checkpoint = select_stage(run, stage)[0]
    if method and checkpoint.method != method:
        raise ConfigError(
            [f"method.{key}={folder}: it was trained by {checkpoint.method}, not by {method}"]
        )
    schedule: Any = run.cfg.schedule
    if not method and not (schedule.kind == "fixed" and schedule.tokens_removed == 0):
        raise ConfigError([f"method.{key}={folder}: a teacher is a run with schedule=explicit"])
    model, tokenizer = restore_weights(run, checkpoint, None, make)
    if parts is not None:
        wrong = _other_task(run.cfg.task.as_dict(), parts.task)
        if tokenizer.get_vocab() != parts.tokenizer.get_vocab():
            wrong.append("its tokenizer is another one")
        wrong += [
            f"its model has {name}={theirs}, this one {ours}"
            for name in SHAPE
            if (theirs := getattr(config_of(model), name))
            != (ours := getattr(config_of(parts.model), name))
        ]
        theirs = schedule.separators
        if method == "mind_reading" and theirs != parts.separators:
            wrong.append(
                f"it was trained with {theirs} separators, this run has {parts.separators}"
            )
        if wrong:
            raise ConfigError([f"method.{key}={folder}: {'; '.join(wrong)}"])
    return model


def _other_task(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """In what the tasks of two runs differ that should not."""
    return [
        f"it was trained with task.{key}={theirs.get(key)}, this run has {ours.get(key)}"
        for key in {**theirs, **ours}
        if not any(part in key for part in FREE) and theirs.get(key) != ours.get(key)
    ]
