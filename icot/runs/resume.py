"""The configuration of a resumed run: its own, with what the command line may change.

resume=outputs/RUN    resume; the command line may only change what does not affect the result
resume=auto           resume if the run directory holds a run, else start
"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from icot.config.checks import validate
from icot.config.command_line import CommandLine, option_name
from icot.config.identity import CHANGEABLE, COMMAND_LINE_ONLY, leaves, matches, put, value_at
from icot.config.kept import trusted_by
from icot.config.schema import TrainConfig
from icot.errors import ConfigError, RunError
from icot.runs.directory import kept_choices
from icot.runs.kept_run import KeptRun
from icot.runs.layout import CHECKPOINTS, CONFIG, MODEL
from icot.runs.places import AUTO, sweep_resume_error

# If these are open, a resumed run uses what they were when it began: its value of environment.json
# if its configuration leaves them open too.
DECIDED_AT_START = {
    "trainer.precision": ("auto", "precision"),
    "model.attn_implementation": (None, "attn_implementation"),
    "model.add_bos": (None, "add_bos"),
}


def resolve_config(composed: DictConfig, command: CommandLine) -> TrainConfig:
    """The configuration to train with: the composed one, or that of the run to resume.

    Args:
        composed: from the command line.
        command: the command line.

    Raises:
        UserError: it is not a run directory, or the command line would change its result.
    """
    folder, resume = Path(composed.paths.output_dir), composed.resume
    if resume not in (None, AUTO) and Path(resume).resolve() != folder.resolve():
        raise sweep_resume_error(resume)
    if resume is None or not (folder / CONFIG).is_file():
        return validate(composed, TrainConfig)
    _check_links(folder)
    asked_values: Any = OmegaConf.to_container(composed, resolve=True)
    if resume == AUTO:
        asked_typed = validate(composed, TrainConfig)
        trusted = trusted_by(asked_typed)
        asked_values = asked_typed.as_dict()
    else:
        trusted = {*(asked_values.get("trust") or ())}
        trusted |= _packages_named(asked_values, command.overrides)
    run = KeptRun(folder, trusted)
    kept = run.cfg.as_dict()
    for key, (open_value, fact) in DECIDED_AT_START.items():
        if value_at(kept, key) == open_value:
            put(kept, key, run.environment.get(fact, open_value))
    changes: list[str] = []
    asked = asked_values
    if resume != AUTO:
        asked, changes = _with_overrides(kept, asked_values, command, kept_choices(folder))
        asked = validate(asked, TrainConfig).as_dict()
    for key, (open_value, _) in DECIDED_AT_START.items():
        if value_at(asked, key) == open_value:
            put(asked, key, value_at(kept, key))
    for key, value in leaves(kept["method"]).items():  # what it took from the runs it builds on
        if value_at(asked, f"method.{key}") is None:
            put(asked, f"method.{key}", value)
    changes += _changes(kept, asked)
    if changes:
        raise ConfigError([f"{change}, which would change the result" for change in changes])
    result = deepcopy(kept)
    for key in leaves(asked):
        if matches(key, CHANGEABLE):
            put(result, key, value_at(asked, key))
    for key in COMMAND_LINE_ONLY:
        result[key] = asked[key]
    return validate(result, TrainConfig)


def _packages_named(composed: dict[str, Any], overrides: Sequence[str]) -> set[str]:
    """Packages whose classes the command line names, by an option or by ``_target_``."""
    named = {text.split("=")[0].split(".")[0].lstrip("+") for text in overrides}
    targets = [
        value_at(composed, f"{g}._target_") for g in ("task", "schedule", "method") if g in named
    ]
    return {str(target).partition(".")[0] for target in targets if target}


def _with_overrides(
    kept: dict[str, Any], composed: dict[str, Any], command: CommandLine, choices: dict[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """The run's configuration with the overrides on top, and messages for other choices.

    ``choices`` are the run's own, by group.
    """
    asked = deepcopy(kept)
    for key in COMMAND_LINE_ONLY:
        asked[key] = composed[key]
    messages = []
    for override in OverridesParser.create().parse_overrides(list(command.overrides)):
        key = override.key_or_group
        if key in choices and matches(key, CHANGEABLE):
            asked[key] = composed[key]
        elif key in choices:
            option = option_name(key, override.value())
            if option != choices[key]:
                messages.append(f"{key} is {choices[key]} there and {option} here")
        elif not matches(key, (*COMMAND_LINE_ONLY, "hydra")) and "/" not in key:
            put(asked, key, value_at(composed, key))
    return asked, messages


def _changes(kept: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """A message for every changed key that affects the result."""
    before, now = leaves(kept), leaves(asked)
    messages = []
    for key in sorted({*before, *now}):
        if matches(key, CHANGEABLE) or before.get(key) == now.get(key):
            continue
        if {} in (before.get(key), now.get(key)):  # the keys of the group are told
            continue
        messages.append(f"{key} is {before.get(key)} there and {now.get(key)} here")
        if matches(key, ("callbacks",)) and key not in now:
            messages[-1] += " (a run directory cannot run code: repeat it on the command line)"
    return messages


def _check_links(folder: Path) -> None:
    """Refuse a run directory with links to outside, which training would overwrite.

    Raises:
        RunError: there is such a link.
    """
    inside = folder.resolve()
    folders = (folder, folder / CHECKPOINTS, folder / MODEL)
    for path in (path for f in folders if f.is_dir() for path in f.iterdir()):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise RunError(
                f"{path} links to {path.resolve()}, outside the run directory; training would "
                "write there. Replace the link by the real file or folder."
            )
