"""Reading the configuration in a run directory, which may come from someone else.

It must hold values, not interpolations, and each value must have its key's type. It may name
classes only of icot and of packages that the user trusts. Keys that this version does not have are
ignored.
"""

import logging
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from icot.config.checks import wrong_values
from icot.config.options import CHOSEN_BY, SECTIONS, AnyTask
from icot.config.schema import TrainConfig
from icot.config.section import TARGET, Section, inner_section, key_of
from icot.errors import RunError

log = logging.getLogger(__name__)

OURS = "icot"
PLUGINS = "icot.packages"  # the entry points of installed packages that extend icot
REPLACED = {  # classes of tasks of earlier versions
    "icot.tasks.gsm8k.HubGSM8K": {TARGET: "icot.tasks.records.Records", "format": "gsm8k"}
}
NEEDED = ("task", "model", "schedule", "optimizer", "trainer", "paths")


def read_config(path: Path) -> TrainConfig:
    """Read a run's resolved configuration; nothing that it names is imported.

    Raises:
        RunError: the file is not the configuration of a run.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException, RecursionError):
        raise RunError(f"{path}: cannot be read as a configuration.") from None
    if not isinstance(content, dict):
        raise RunError(f"{path}: not the configuration of a run.")
    if missing := [k for k in NEEDED if k not in content]:
        raise RunError(f"{path}: not the configuration of a run; it lacks {', '.join(missing)}.")
    if text := _interpolation(content):
        raise RunError(f"{path}: {text!r} is an interpolation; a run's configuration holds values.")
    content["task"] = _task_of_now(content["task"])
    known = _known(content, TrainConfig, path)
    if isinstance(known["model"], dict):  # before the key existed, no example began with BOS
        known["model"].setdefault("add_bos", False)
    if mistakes := wrong_values(known, TrainConfig):
        raise RunError(f"{path}: not the configuration of a run: {mistakes[0]}.")
    return TrainConfig.model_validate(known)


def check_trusted(cfg: TrainConfig, trusted: Iterable[str], path: Path) -> None:
    """Refuse a run directory that names code of an untrusted package.

    Args:
        cfg: the run's configuration.
        trusted: packages that the command line trusts; installed packages with an entry point in
            the group ``icot.packages`` are trusted too.
        path: of the file, for the message.

    Raises:
        RunError: it names code of an untrusted package.
    """
    allowed = trusted_packages(trusted)
    for key, target in targets_of(cfg).items():
        if "." not in target and key.startswith("method."):  # the name of a folder of icot.methods
            continue
        _check_package(key, target, allowed, path)

    attention = cfg.model.attn_implementation or ""
    owner = attention.partition("/")[0]
    if owner != attention and owner not in allowed:  # a kernel, which is downloaded and run
        raise RunError(
            f"{path}: model.attn_implementation is {attention!r}, code from the hub. If you trust "
            f"{owner}, add trust=[{owner}]."
        )


def trusted_packages(trusted: Iterable[str] = ()) -> set[str]:
    """The packages whose code a file may name: icot, installed ones that extend it, and these."""
    return {OURS, *trusted, *(point.value for point in entry_points(group=PLUGINS))}


def trusted_by(cfg: TrainConfig) -> set[str]:
    """The packages that a command line trusts: by ``trust``, and by naming their classes."""
    return {*cfg.trust, *(target.partition(".")[0] for target in targets_of(cfg).values())}


def read_task(content: Any, trusted: Iterable[str], path: Path) -> AnyTask:
    """The task that the file of an exported model names, checked as that of a run is.

    Raises:
        RunError: it is not valid, or names code of an untrusted package.
    """
    try:
        task: AnyTask = TypeAdapter(AnyTask).validate_python(_task_of_now(content))
    except ValidationError:
        raise RunError(f"{path}: its task is not one of this version of icot.") from None
    _check_package(f"task.{TARGET}", str(task.target), trusted_packages(trusted), path)
    return task


def _task_of_now(task: Any) -> Any:
    """A task of an earlier version's class as one of the class that has replaced it."""
    if not isinstance(task, dict):
        return task
    return task | REPLACED.get(str(task.get(TARGET)), {})


def _check_package(key: str, target: str, allowed: set[str], path: Path) -> None:
    package = target.partition(".")[0]
    if package not in allowed:
        raise RunError(
            f"{path}: {key} is {target!r}; a run directory may run code only of icot and of "
            f"packages that you trust. If you trust {package}, add trust=[{package}]."
        )


def targets_of(cfg: TrainConfig) -> dict[str, str]:
    """The classes that a configuration names, by key."""
    found = {}
    for group in ("task", "schedule", "method"):
        target = getattr(getattr(cfg, group), "target", None)
        if target is not None:
            found[f"{group}.{TARGET}"] = str(target)
    return found


def _known(
    content: Mapping[Any, Any], schema: type[Section], path: Path, prefix: str = ""
) -> dict[str, Any]:
    """The content without keys that this version does not have; a warning names those."""
    fields = {key_of(name, field): field for name, field in schema.model_fields.items()}
    known: dict[str, Any] = {}
    for key, value in content.items():
        if key not in fields:
            if schema.model_config.get("extra") == "allow":
                known[key] = value
            elif not _of_another_option(schema, key):
                log.warning(
                    "%s: %s%s is a key of another version and is ignored.", path, prefix, key
                )
            continue
        inner = inner_section(fields[key])
        if key in CHOSEN_BY and isinstance(value, dict):
            inner = SECTIONS[key].get(str(value.get(CHOSEN_BY[key])))
        if inner is not None and isinstance(value, dict):
            value = _known(value, inner, path, f"{prefix}{key}.")
        known[key] = value
    return known


def _of_another_option(schema: type[Section], key: str) -> bool:
    """Whether a key is of another option of the group: version 0.1.0 saved all schedules' keys."""
    for options in SECTIONS.values():
        if schema in options.values():
            return any(
                key in (key_of(name, field) for name, field in option.model_fields.items())
                for option in options.values()
            )
    return False


def _interpolation(value: Any) -> str | None:
    """The first interpolation in a configuration, None without one."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        return next((text for inner in value if (text := _interpolation(inner))), None)
    return value if isinstance(value, str) and "${" in value else None
