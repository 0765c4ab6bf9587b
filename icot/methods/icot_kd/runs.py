"""The runs that a training of ICoT-KD builds on: teacher, student, emulator."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from icot.config.schema import ModelConfig, TrainConfig
from icot.errors import ConfigError
from icot.evaluation.loading import MakeModel, restore_weights
from icot.methods.base import ModuleParts, SettingsParts, method_named
from icot.models.introspection import config_of
from icot.runs.checkpoints import select_stage
from icot.runs.kept_run import KeptRun

SHAPE = ("num_hidden_layers", "hidden_size")
LAYERS = ("n_layer", "num_hidden_layers")  # as the settings of a model may call them
WIDTH = ("n_embd", "hidden_size")
# Keys of a task in which runs may differ that build on each other: sizes, seeds, places.
FREE = ("size", "seed", "easy", "file", "data_dir", "on_bad_line", "held_out", "name", "revision")


def config_of_run(key: str, folder: str, parts: SettingsParts) -> TrainConfig:
    """The configuration of a run, perhaps of one that has not been trained yet.

    Args:
        key: of the option that names the run, for messages.
        folder: its directory.
        parts: of the run that builds on it.

    Raises:
        ConfigError: there is no such directory.
        RunError: it cannot be read.
    """
    if folder in parts.planned:
        return parts.planned[folder]
    return _kept_run(key, folder, parts.trusted).cfg


def mistakes_of_run(key: str, folder: str, method: str, parts: SettingsParts) -> list[str]:
    """Why a run cannot build on another one, as far as their configurations tell.

    Args:
        key: of the option that names the other run.
        folder: its directory.
        method: that it must have been trained by; "" is explicit CoT, a teacher's.
        parts: of this run.

    Raises:
        RunError: the other run cannot be read.
    """
    try:
        cfg = config_of_run(key, folder, parts)
    except ConfigError as error:
        return error.mistakes
    schedule: Any = cfg.schedule
    if method and (theirs := method_named(cfg.method.target).name) != method:
        return [f"method.{key}={folder}: it was trained by {theirs}, not by {method}"]
    if not method and not (schedule.kind == "fixed" and schedule.tokens_removed == 0):
        return [f"method.{key}={folder}: a teacher is a run with schedule=explicit"]
    wrong = _other_task(cfg.task.as_dict(), parts.task) + _other_shape(cfg.model, parts.model)
    if method == "mind_reading" and schedule.separators != parts.separators:
        wrong.append(
            f"it was trained with {schedule.separators} separators, this run has {parts.separators}"
        )
    return [f"method.{key}={folder}: {'; '.join(wrong)}"] if wrong else []


def mistakes_of_depth(model: ModelConfig) -> list[str]:
    """That a model has only one layer, where its settings say so."""
    return [
        f"model.config.{key}={model.config[key]}: the states of a teacher need at least two layers"
        for key in LAYERS
        if not model.pretrained and model.config.get(key) == 1
    ]


def restore(
    key: str,
    folder: str,
    stage: str,
    *,
    parts: ModuleParts | None = None,
    trusted: Collection[str] = (),
    make: MakeModel | None = None,
) -> nn.Module:
    """The model of another run, on the CPU.

    Args:
        key: of the configuration that names the run, for messages.
        folder: its directory.
        stage: final or best.
        parts: of this run, which the other must fit; None checks nothing.
        trusted: packages whose code it may name.
        make: as in ``icot.evaluation.loading.restore_weights``.

    Raises:
        ConfigError: there is no such run, or it has another tokenizer or shape.
        RunError, ModelError: it cannot be read.
    """
    run = _kept_run(key, folder, trusted)
    model, tokenizer = restore_weights(run, select_stage(run, stage)[0], None, make)
    if parts is not None:
        wrong = []
        if tokenizer.get_vocab() != parts.tokenizer.get_vocab():
            wrong.append("its tokenizer is another one")
        wrong += [
            f"its model has {name}={theirs}, this one {ours}"
            for name in SHAPE
            if (theirs := getattr(config_of(model), name))
            != (ours := getattr(config_of(parts.model), name))
        ]
        if wrong:
            raise ConfigError([f"method.{key}={folder}: {'; '.join(wrong)}"])
    return model


def _kept_run(key: str, folder: str, trusted: Collection[str]) -> KeptRun:
    if not Path(folder).is_dir():
        raise ConfigError([f"method.{key}={folder}: no such run directory"])
    return KeptRun(folder, trusted)


def _other_task(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """In what the tasks of two runs differ that should not."""
    return [
        f"it was trained with task.{key}={theirs.get(key)}, this run has {ours.get(key)}"
        for key in {**theirs, **ours}
        if not any(part in key for part in FREE) and theirs.get(key) != ours.get(key)
    ]


def _other_shape(theirs: ModelConfig, ours: ModelConfig) -> list[str]:
    """In what two models of one kind differ; of others and of pretrained ones the weights tell."""
    alike = ("name_or_path", "architecture", "pretrained")
    if ours.pretrained or any(getattr(theirs, k) != getattr(ours, k) for k in alike):
        return []
    return [
        f"its model has {key}={theirs.config.get(key)}, this one {ours.config.get(key)}"
        for key in (*LAYERS, *WIDTH)
        if theirs.config.get(key) != ours.config.get(key)
    ]
