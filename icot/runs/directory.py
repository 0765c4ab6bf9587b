"""The files that a run directory has from the start, which document how to repeat the run."""

import json
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from icot.config.section import Section
from icot.errors import RunError
from icot.runs.layout import COMMAND, CONFIG, ENVIRONMENT, PARTS, SUMMARY
from icot.system.files import write_text

PACKAGES = (
    "icot",
    "torch",
    "lightning",
    "transformers",
    "tokenizers",
    "hydra-core",
    "omegaconf",
    "numpy",
)


def describe(
    folder: Path,
    cfg: Section,
    command: str,
    facts: dict[str, Any],
    machine: dict[str, Any],
    step: int,
) -> None:
    """Write the resolved configuration, the command line, and the environment.

    A run that is resumed at ``step`` keeps its first environment and adds to it.

    Args:
        folder: the run directory.
        cfg: the configuration.
        command: the command line.
        facts: the facts of the run.
        machine: the source's revision, the interpreter and the hardware.
        step: updates done before; 0 for a new run.

    Raises:
        RunError: a file cannot be written.
    """
    commands = f"{command}\n"
    environment = {
        **facts,
        "begun": datetime.now().isoformat(timespec="seconds"),
        **machine,
        "packages": {name: _version(name) for name in PACKAGES},
    }
    path = folder / ENVIRONMENT
    if step and path.is_file():
        begun = read_environment(folder)
        begun.setdefault("resumed", []).append({"step": step, **machine})
        environment = begun
        earlier = folder / COMMAND
        if earlier.is_file():
            commands = earlier.read_text(encoding="utf-8") + commands
    write_text(path, json.dumps(environment, indent=2) + "\n")
    write_text(folder / COMMAND, commands)
    text = yaml.safe_dump(cfg.as_dict(), sort_keys=False, allow_unicode=True)
    write_text(folder / CONFIG, text)


def kept_choices(folder: Path) -> dict[str, str]:
    """The option of each configuration group that a run was started with; empty if unknown."""
    found = read_environment(folder).get("choices")
    if not isinstance(found, dict) or not (folder / CONFIG).is_file():
        return {}
    return {str(key): str(option) for key, option in found.items()}


def read_environment(folder: Path) -> dict[str, Any]:
    """The content of environment.json; empty if it cannot be read."""
    return _read_json(folder / ENVIRONMENT)


def read_summary(folder: Path) -> dict[str, Any]:
    """The content of summary.json; empty if the run has not finished."""
    return _read_json(folder / SUMMARY)


def first_part(folder: Path) -> str:
    """The name of the folder that has the shape and the tokenizer of an exported model.

    Raises:
        RunError: parts.json cannot be read.
    """
    parts = _read_json(folder / PARTS).get("parts")
    name = next(iter(parts), None) if isinstance(parts, dict) else None
    if name is None or Path(name).name != name:
        raise RunError(f"{folder / PARTS}: cannot be read as a list of a model's parts.")
    return str(name)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
