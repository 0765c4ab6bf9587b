"""The configuration that a run directory keeps, read as what it is: a file from elsewhere.

It may come from anybody. So it may name the tasks of this package and nothing else to be made, it
holds values and no interpolations, and every value is of its key's type; keys that this version
does not have are ignored.
"""

import logging
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from icot.config.schema import TrainConfig
from icot.config.task_schemas import (
    HubGSM8KConfig,
    MultiplicationConfig,
    TaskConfig,
    TextFilesConfig,
)
from icot.errors import RunError, first_line

log = logging.getLogger(__name__)

TASKS: tuple[type[TaskConfig], ...] = (MultiplicationConfig, TextFilesConfig, HubGSM8KConfig)


def read_config(path: Path) -> DictConfig:
    """A run's resolved configuration.

    Raises:
        RunError: it is not one, or asks for something that a file may not ask for.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException, RecursionError):
        raise RunError(f"{path}: cannot be read as a configuration.") from None
    if not isinstance(content, dict):
        raise RunError(f"{path}: not the configuration of a run.")
    if missing := [k for k in ("task", "model", "schedule", "trainer") if k not in content]:
        raise RunError(f"{path}: not the configuration of a run; it lacks {', '.join(missing)}.")
    if text := _interpolation(content):
        raise RunError(f"{path}: {text!r} is to be computed; a kept configuration holds values.")
    kinds = {kind._target_: kind for kind in TASKS}
    task = content["task"]
    target = task.get("_target_") if isinstance(task, dict) else None
    if target not in kinds:
        raise RunError(
            f"{path}: task._target_ is {target!r}; a run directory may name the tasks of icot "
            f"only: {', '.join(kinds)}."
        )
    try:
        schema = OmegaConf.structured(TrainConfig)
        schema.task = OmegaConf.structured(kinds[target])
        cfg = OmegaConf.merge(schema, _known(content, schema, path))
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        key = getattr(error, "full_key", None) or "a key"
        raise RunError(
            f"{path}: not the configuration of a run: {key}: {first_line(error)}"
        ) from None
    assert isinstance(cfg, DictConfig)
    return cfg


def _known(content: dict[Any, Any], schema: DictConfig, path: Path, prefix: str = "") -> Any:
    """The content without keys that this version does not have; they are named."""
    known: dict[Any, Any] = {}
    for key, value in content.items():
        inner = schema._get_node(key, validate_access=False)
        if inner is None and OmegaConf.get_type(schema) is not dict:
            log.warning("%s: %s%s is a key of another version and is ignored.", path, prefix, key)
            continue
        if isinstance(value, dict) and isinstance(inner, DictConfig):
            value = _known(value, inner, path, f"{prefix}{key}.")
        known[key] = value
    return known


def _interpolation(value: Any) -> str | None:
    """The first text in a configuration that OmegaConf would compute."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        return next((text for inner in value if (text := _interpolation(inner))), None)
    return value if isinstance(value, str) and "${" in value else None
