"""Going on with a run: with its own configuration, from its newest intact checkpoint.

resume=outputs/RUN    go on; the command line may only change what does not change the result
resume=auto           go on where the run directory holds a run, begin otherwise
"""

import hashlib
import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from icot.errors import ConfigError, RunError

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
        key: NOTHING if option is None else str(option)
        for key, option in choices.items()
        if "/" not in key and not key.startswith("hydra")
    }


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
            option = NOTHING if override.value() is None else str(override.value())
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
