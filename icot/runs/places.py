"""The output directory of a command, found before Hydra runs, because Hydra creates it.

resume=outputs/RUN     that directory
resume=auto            a directory named after the configuration
-m +sweep=NAME         a directory named after the sweep's configuration, found again on restart
"""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from icot.config.checks import validate
from icot.config.command_line import NOTHING, SWEEP, GroupOptions, named_values, quote, unquote
from icot.config.entry_points import SCHEMAS
from icot.config.identity import digest, short_hash
from icot.errors import ConfigError, RunError
from icot.runs.directory import kept_choices
from icot.runs.kept_run import KeptRun
from icot.runs.layout import CONFIG
from icot.system.files import check_writable

AUTO = "auto"
PLACES = ("paths.output_dir", "hydra.run.dir")  # keys that name the directory of a run
NAMING = ("task", "model", "schedule")  # groups whose options name a directory
KEYS_DEPEND_ON = ("task", "schedule", "optimizer")  # groups whose option determines the keys


def find_run_to_resume(overrides: Sequence[str]) -> Path | None:
    """The run directory that a command line resumes by name; None if it does not.

    Raises:
        RunError: it is not a run directory.
    """
    resume = unquote(named_values(overrides).get("resume", ""))
    if not resume or resume in (AUTO, NOTHING):
        return None
    return KeptRun(resume).folder.resolve()


def run_options(folder: Path, overrides: Sequence[str]) -> list[str]:
    """A run's own options as overrides, unless the command line sets others.

    They determine which keys exist, so that ``resume=RUN schedule.tokens_per_epoch=8`` is checked
    against the run's own schedule. Hydra must be initialised.
    """
    named, choices = named_values(overrides), kept_choices(folder)
    options = GroupOptions()
    return [
        f"{group}={choices[group]}"
        for group in KEYS_DEPEND_ON
        if group not in named and choices.get(group) in options.of(group)
    ]


def directory_overrides(config_name: str, overrides: Sequence[str], multirun: bool) -> list[str]:
    """The overrides that set Hydra's output directory, in addition to the command line.

    The runs of a multirun are checked when they start. Hydra must be initialised.

    Raises:
        UserError: there is no run to resume, the directory already holds another run, or it cannot
            be written.
    """
    named = named_values(overrides)
    resume = unquote(named.get("resume", ""))
    if "resume" in named and not resume:
        raise ConfigError(["resume= is empty: set it to a run directory, or to auto"])
    empty = [k for k in PLACES if k in named and unquote(named[k]) in ("", NOTHING)]
    if empty:
        raise ConfigError([f"{k}={named[k]} names no directory; leave it out" for k in empty])
    if multirun:
        if resume and resume not in (AUTO, NOTHING):
            raise sweep_resume_error(resume)
        if "hydra.sweep.dir" in named:
            return []
        sweep = _directory_of_sweep(config_name, overrides)
        check_writable(sweep)
        return [f"hydra.sweep.dir={quote(str(sweep))}"]
    folder = find_run_to_resume(overrides)
    if folder is not None:
        if "hydra.run.dir" in named:  # another process of the run, or a contradiction
            if Path(unquote(named["hydra.run.dir"])).resolve() != folder:
                raise ConfigError(
                    [f"resume={resume} already sets the directory: leave out hydra.run.dir"]
                )
            return []
        check_writable(folder)
        return [f"hydra.run.dir={quote(str(folder))}", "hydra.output_subdir=null"]
    key = next((k for k in PLACES if k in named), None)
    if key is not None:
        given = Path(unquote(named[key]))
        taken = "${" not in named[key] and (given / CONFIG).is_file()
        if taken and resume != AUTO and _is_main_process():
            raise run_exists_error(given)
        check_writable(given)
        return []
    if resume == AUTO:
        folder = _directory_of_run(config_name, overrides)
        check_writable(folder)
        return [f"hydra.run.dir={quote(str(folder))}"]
    check_writable(Path(unquote(named.get("paths.output_root", "outputs"))))
    return []


def sweep_resume_error(resume: str) -> ConfigError:
    """The error for a sweep with ``resume=`` of a single run."""
    return ConfigError(
        [f"resume={resume} resumes one run; for a sweep use resume=auto hydra.sweep.dir="]
    )


def run_exists_error(folder: Path) -> RunError:
    """The error for a new run in the directory of another."""
    return RunError(
        f"{folder} already holds a run. Resume it with resume={folder}, or start a new one in "
        "another directory with hydra.run.dir=..."
    )


def _directory_of_run(config_name: str, overrides: Sequence[str]) -> Path:
    """A directory named after the options and the digest of the configuration."""
    choices, root, own = _compose(config_name, overrides)
    name = "_".join([*(choices[group] for group in NAMING), own])
    return root / name


def _directory_of_sweep(config_name: str, overrides: Sequence[str]) -> Path:
    """The directory of all runs of a sweep.

    For a named sweep it depends on the settings that all its runs share, so that the same command
    finds it again, and one with more values adds to it. Any other has the time in its name.
    """
    loader = GlobalHydra.instance().config_loader()
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    named = [o for o in parsed if o.key_or_group == SWEEP]
    varied = {o.key_or_group for o in parsed if o.is_sweep_override()}
    if named:
        cfg = compose(config_name, [str(named[0].input_line)], return_hydra_config=True)
        varied |= set(cfg.hydra.sweeper.get("params") or {})
    common = [o for o in parsed if o.key_or_group not in varied]
    # A key of a varied group, as schedule.threshold, may exist with some of its options only.
    inner = [o for o in common if any(o.key_or_group.startswith(f"{g}.") for g in varied)]
    outer = [str(o.input_line) for o in common if o not in inner]
    choices, root, own = _compose(config_name, outer, tuple(varied))
    if named:
        if inner:
            own = short_hash([own, *sorted(str(o.input_line) for o in inner)])
        return root / "sweeps" / f"{named[0].value()}_{own}"
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    shared = [choices[group] for group in NAMING if group not in varied]
    return root / "sweeps" / "_".join([started, *shared])


def _compose(
    config_name: str, overrides: Sequence[str], without: tuple[str, ...] = ()
) -> tuple[dict[str, str], Path, str]:
    """A command line's options by group, its output_root, and the digest of its values."""
    cfg = compose(config_name, list(overrides), return_hydra_config=True)
    choices = {str(k): str(v) for k, v in cfg.hydra.runtime.choices.items()}
    values = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    OmegaConf.update(values, "paths.output_dir", "")
    typed = validate(values, SCHEMAS[config_name])
    return choices, Path(cfg.paths.output_root), digest(typed, without)


def _is_main_process() -> bool:
    """Whether this is the main process of a run, by the variables that launchers set."""
    ranks = (os.environ.get(name, "0") for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return all(rank == "0" for rank in ranks)
