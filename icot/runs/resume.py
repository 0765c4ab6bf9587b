"""Going on with a run: with its own configuration, from its newest intact checkpoint.

resume=outputs/RUN    go on; the command line may only change what does not change the result
resume=auto           go on where the run directory holds a run, begin otherwise
"""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from icot.config.experiments import GROUP, short_name
from icot.errors import ConfigError, RunError

log = logging.getLogger(__name__)

AUTO = "auto"
NOTHING = "null"  # the option of a group of which none is chosen
# Keys, or groups of keys, that do not change what a run computes.
FREE = (
    "resume",
    "paths",
    "logger",
    "paper",
    "checkpoints",
    "on_nonfinite",
    "on_collapse",
    "collapse",
    "max_rollbacks",
    "data.num_workers",
    "validation.shown",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.finish_steps",
    "trainer.log_every_n_steps",
    "trainer.requeue",
)
# What a run directory from elsewhere may not decide: where is written, and what code is run.
COMMAND_LINE_ONLY = ("paths", "callbacks")


@dataclass(frozen=True)
class Position:
    """Where a run goes on.

    Attributes:
        checkpoint: the file, None for the beginning.
        step: optimizer steps done.
        epoch: epochs done.
        batches: batches done, over all epochs.
        tokens_removed: at the next batch.
        removed_all: optimizer steps done when everything was removed, None before.
    """

    checkpoint: Path | None = None
    step: int = 0
    epoch: int = 0
    batches: int = 0
    tokens_removed: int = 0
    removed_all: int | None = None


def before_hydra(config_name: str, overrides: list[str], multirun: bool = False) -> list[str]:
    """What the command line has to say further, so that Hydra works in the right directory.

    A multirun's runs are each looked at when they begin.

    Raises:
        UserError: there is no run to go on with, or one in the way, or nothing can be written.
    """
    from icot.runs.directory import check_writable
    from icot.runs.layout import CONFIG
    from icot.runs.sweeps import own_directory

    named = dict(text.split("=", 1) for text in overrides if "=" in text)
    resume = _unquoted(named.get("resume", ""))
    if multirun:
        if resume and resume not in (AUTO, NOTHING):
            raise _one_run_only(resume)
        sweep = own_directory(config_name, overrides)
        if sweep is None:
            return []
        check_writable(sweep)
        return [f"hydra.sweep.dir={quoted(str(sweep))}"]
    if resume and resume not in (AUTO, NOTHING):
        from icot.runs.checkpoints import KeptRun

        folder = KeptRun(resume).folder.resolve()
        if "hydra.run.dir" in named:  # a further process of the run, or a contradiction
            if Path(_unquoted(named["hydra.run.dir"])).resolve() != folder:
                raise ConfigError(
                    [f"resume={resume} goes on in that very directory: leave out hydra.run.dir"]
                )
            return []
        check_writable(folder)
        return [f"hydra.run.dir={quoted(str(folder))}", "hydra.output_subdir=null"]
    more = []
    key = next((k for k in ("paths.output_dir", "hydra.run.dir") if k in named), None)
    if key is not None:
        given = Path(_unquoted(named[key]))
        taken = "${" not in named[key] and (given / CONFIG).is_file()
        if taken and resume != AUTO and _is_first_process():
            raise _in_the_way(given)
        check_writable(given)
    elif resume == AUTO:
        folder = _own_directory(config_name, overrides)
        check_writable(folder)
        more.append(f"hydra.run.dir={quoted(str(folder))}")
    else:
        check_writable(Path(_unquoted(named.get("paths.output_root", "outputs"))))
    return more


def _own_directory(config_name: str, overrides: list[str]) -> Path:
    """A directory whose name depends on what the configuration computes alone."""
    from hydra import compose

    cfg = compose(config_name, overrides, return_hydra_config=True)
    choices = cfg.hydra.runtime.choices
    name = "_".join([choices.task, choices.model, choices.schedule, digest(cfg)])
    return Path(cfg.paths.output_root) / name


def digest(cfg: DictConfig, without: tuple[str, ...] = ()) -> str:
    """Eight letters that depend on what a configuration computes, not on the keys ``without``."""
    left_out = (*FREE, *without, "hydra")
    content = {k: str(v) for k, v in leaves(cfg).items() if not matches(k, left_out)}
    return hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()[:8]


def settled(cfg: DictConfig, folder: Path, overrides: list[str], first: bool) -> DictConfig:
    """The configuration to train with: the composed one, or that of the run in ``folder``.

    Args:
        cfg: as composed from the command line.
        folder: the run directory.
        overrides: of the command line.
        first: whether this is the first of several processes of one run.

    Raises:
        UserError: the run is in the way, or the command line would change its result.
    """
    from icot.runs.checkpoints import KeptRun
    from icot.runs.directory import chosen_options
    from icot.runs.layout import CONFIG

    if cfg.resume not in (None, AUTO) and Path(cfg.resume).resolve() != folder.resolve():
        raise _one_run_only(cfg.resume)
    if not (folder / CONFIG).is_file():
        return cfg
    if cfg.resume is None:
        if first:
            raise _in_the_way(folder)
        return cfg  # the first process has begun the run
    _check_no_way_out(folder)
    run = KeptRun(folder)
    kept = run.cfg.copy()
    if kept.trainer.precision == "auto":  # what that was on the machine where the run began
        kept.trainer.precision = run.environment.get("precision", "auto")
    if kept.model.attn_implementation is None:
        kept.model.attn_implementation = run.environment.get("attn_implementation")
    changes: list[str] = []
    asked = cfg
    if cfg.resume != AUTO:
        asked, changes = _with_overrides(kept, cfg, overrides, chosen_options(folder))
    if asked.trainer.precision == "auto":
        asked.trainer.precision = kept.trainer.precision
    if asked.model.attn_implementation is None:
        asked.model.attn_implementation = kept.model.attn_implementation
    changes += _changes(kept, asked)
    if changes:
        raise ConfigError([f"{change}, which would change the result" for change in changes])
    result = kept.copy()
    for key in leaves(result):
        if matches(key, FREE):
            OmegaConf.update(result, key, OmegaConf.select(asked, key), force_add=True)
    for key in COMMAND_LINE_ONLY:
        result[key] = asked[key]
    return result


def plain_options(choices: Any) -> dict[str, str]:
    """The options by group that Hydra has composed from, without its own groups."""
    return {
        key: option_name(key, option)
        for key, option in choices.items()
        if "/" not in key and not key.startswith("hydra")
    }


def option_name(group: str, option: Any) -> str:
    """An option as a run directory names it; an experiment by its short name."""
    if option is None:
        return NOTHING
    return short_name(str(option)) if group == GROUP else str(option)


def _with_overrides(
    kept: DictConfig, composed: DictConfig, overrides: list[str], choices: dict[str, str]
) -> tuple[DictConfig, list[str]]:
    """The run's configuration with the command line's overrides on top, and its other choices.

    ``choices`` are the run's own, by group.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    asked = kept.copy()
    for key in COMMAND_LINE_ONLY:
        asked[key] = composed[key]
    other = []
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        if key in choices and matches(key, FREE):
            asked[key] = composed[key]
        elif key in choices:
            option = option_name(key, override.value())
            if option != choices[key]:
                other.append(f"{key} is {choices[key]} there and {option} here")
        elif not matches(key, (*COMMAND_LINE_ONLY, "hydra")) and "/" not in key:
            OmegaConf.update(asked, key, OmegaConf.select(composed, key), force_add=True)
    return asked, other


def _changes(kept: DictConfig, asked: DictConfig) -> list[str]:
    """Every key that changes the result and is not as it was."""
    before, now = leaves(kept), leaves(asked)
    found = []
    for key in sorted({*before, *now}):
        if matches(key, FREE) or before.get(key) == now.get(key):
            continue
        found.append(f"{key} is {before.get(key)} there and {now.get(key)} here")
        if matches(key, ("callbacks",)) and key not in now:
            found[-1] += " (a run directory cannot run code: repeat it on the command line)"
    return found


def where_to_go_on(folder: Path, cfg: DictConfig, first: bool) -> Position:
    """The newest intact checkpoint of a run directory; damaged ones are named and set aside.

    Raises:
        RunError: the run is longer than the configuration allows.
    """
    from icot.runs import checkpoint_file
    from icot.runs.checkpoints import newest_intact
    from icot.runs.layout import CHECKPOINTS, DAMAGED
    from icot.system.files import remove_partial_files

    if first:
        for place in (folder, folder / CHECKPOINTS):
            remove_partial_files(place)
    path, damaged = newest_intact(folder)
    if first:
        for bad in damaged:
            instead = f"{path} is used instead" if path else "there is no other: it begins anew"
            log.warning("%s is damaged and has been set aside; %s.", bad, instead)
            bad.replace(bad.with_name(bad.name + DAMAGED))
    if path is None:
        return Position()
    content = checkpoint_file.load(path, mmap=True, verify=False)
    try:
        saved = content["callbacks"]["Checkpointing"]["saved"]
        stage = content["callbacks"]["RemovalSchedule"]["stage"]
        numbers = [saved["step"], saved["epoch"], stage["batches"], stage["tokens_removed"]]
        finish = content["callbacks"].get("Finish", {}).get("begun")
        removed_all = None if finish is None else int(finish)
        step, epoch, batches, tokens_removed = map(int, numbers)
        position = Position(path, step, epoch, batches, tokens_removed, removed_all)
    except (LookupError, TypeError, ValueError):
        raise RunError(f"checkpoint {path}: holds weights, but not what resumes a run.") from None
    if 0 < cfg.trainer.max_steps < position.step:
        raise RunError(
            f"trainer.max_steps={cfg.trainer.max_steps}: {folder} has done {position.step} steps "
            "already; a longer run is allowed, a shorter one is not."
        )
    if 0 < cfg.trainer.max_epochs <= position.epoch:
        raise RunError(
            f"trainer.max_epochs={cfg.trainer.max_epochs}: {folder} has begun epoch "
            f"{position.epoch + 1} already; a longer run is allowed, a shorter one is not."
        )
    return position


def is_complete(folder: Path, cfg: DictConfig, position: Position) -> bool:
    """Whether a run has come to the end that its configuration sets."""
    from icot.runs.directory import read_summary

    summary = read_summary(folder)
    steps, epochs = summary.get("steps"), summary.get("epochs")
    if not isinstance(steps, int) or not isinstance(epochs, int):
        return False
    if steps != position.step:
        return False
    t = cfg.trainer
    ends = [t.max_steps] if t.max_steps > 0 else []
    if t.finish_steps is not None and position.removed_all is not None:
        ends.append(position.removed_all + t.finish_steps)
    return min(ends, default=steps + 1) <= steps or 0 < t.max_epochs <= epochs


def _check_no_way_out(folder: Path) -> None:
    """Refuse a run directory with links through which something outside would be written.

    Raises:
        RunError: there is one.
    """
    from icot.runs.layout import CHECKPOINTS, MODEL

    inside = folder.resolve()
    places = (folder, folder / CHECKPOINTS, folder / MODEL)
    for path in (path for place in places if place.is_dir() for path in place.iterdir()):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise RunError(
                f"{path} is a link to {path.resolve()}, outside of the run directory; training "
                "would write there. Put the real file or folder in its place."
            )


def _one_run_only(resume: str) -> ConfigError:
    return ConfigError(
        [f"resume={resume} goes on with one run; resume=auto hydra.sweep.dir= with many"]
    )


def _is_first_process() -> bool:
    """Whether this is no further process of one run, by what launchers set."""
    ranks = (os.environ.get(name, "0") for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return all(rank == "0" for rank in ranks)


def _in_the_way(folder: Path) -> RunError:
    return RunError(
        f"{folder} holds a run already. resume={folder} goes on with it; another directory, "
        "hydra.run.dir=..., begins a new one."
    )


def leaves(cfg: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names of all values, with lists as values."""
    found: dict[str, Any] = {}
    plain: Any = OmegaConf.to_container(cfg, resolve=False) if OmegaConf.is_config(cfg) else cfg
    for key, value in plain.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def matches(key: str, keys: tuple[str, ...]) -> bool:
    """Whether a dotted key is one of ``keys`` or lies within one."""
    return any(key == k or key.startswith(f"{k}.") for k in keys)


def quoted(text: str) -> str:
    """A text as Hydra's command line takes it, whatever characters it has."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _unquoted(text: str) -> str:
    for mark in ("'", '"'):
        if len(text) > 1 and text.startswith(mark) and text.endswith(mark):
            return text[1:-1].replace(f"\\{mark}", mark)
    return text
