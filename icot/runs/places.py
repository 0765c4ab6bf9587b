"""In which directory a command works: found before Hydra runs, for Hydra makes the directory.

resume=outputs/RUN     that very directory
resume=auto            a directory whose name depends on what the configuration computes
-m +sweep=NAME         the same for a sweep, so that a second start finds it again
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
from icot.config.identity import digest
from icot.errors import ConfigError, RunError
from icot.runs.directory import kept_choices
from icot.runs.kept_run import KeptRun
from icot.runs.layout import CONFIG
from icot.system.files import check_writable

AUTO = "auto"
NAMING = ("task", "model", "schedule")  # groups whose options name a directory
KEYS_DEPEND_ON = ("task", "schedule", "optimizer")  # groups whose option decides which keys exist


def find_run_to_resume(overrides: Sequence[str]) -> Path | None:
    """The run directory that a command line goes on with by name, if it does.

    Raises:
        RunError: it is none.
    """
    resume = unquote(named_values(overrides).get("resume", ""))
    if not resume or resume in (AUTO, NOTHING):
        return None
    return KeptRun(resume).folder.resolve()


def run_options(folder: Path, overrides: Sequence[str]) -> list[str]:
    """A run's own options as overrides, where the command line does not name others.

    They decide which keys there are, so that ``resume=RUN schedule.tokens_per_epoch=8`` is judged
    by the run's own schedule. Hydra must be initialised.
    """
    named, choices = named_values(overrides), kept_choices(folder)
    options = GroupOptions()
    return [
        f"{group}={choices[group]}"
        for group in KEYS_DEPEND_ON
        if group not in named and choices.get(group) in options.of(group)
    ]


def directory_overrides(config_name: str, overrides: Sequence[str], multirun: bool) -> list[str]:
    """What a command line has to say further, so that Hydra works in the right directory.

    A multirun's runs are each looked at when they begin. Hydra must be initialised.

    Raises:
        UserError: there is no run to go on with, or one is in the way, or nothing can be written.
    """
    named = named_values(overrides)
    resume = unquote(named.get("resume", ""))
    if "resume" in named and not resume:
        raise ConfigError(["resume= names no run: set it to a run directory, or to auto"])
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
        if "hydra.run.dir" in named:  # a further process of the run, or a contradiction
            if Path(unquote(named["hydra.run.dir"])).resolve() != folder:
                raise ConfigError(
                    [f"resume={resume} goes on in that very directory: leave out hydra.run.dir"]
                )
            return []
        check_writable(folder)
        return [f"hydra.run.dir={quote(str(folder))}", "hydra.output_subdir=null"]
    key = next((k for k in ("paths.output_dir", "hydra.run.dir") if k in named), None)
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
    """The mistake of a sweep that is to go on with one run."""
    return ConfigError(
        [f"resume={resume} goes on with one run; resume=auto hydra.sweep.dir= with many"]
    )


def run_exists_error(folder: Path) -> RunError:
    """The mistake of a new run where another one lies."""
    return RunError(
        f"{folder} holds a run already. resume={folder} goes on with it; another directory, "
        "hydra.run.dir=..., begins a new one."
    )


def _directory_of_run(config_name: str, overrides: Sequence[str]) -> Path:
    """A directory whose name depends on what the configuration computes alone."""
    choices, root, own = _compose(config_name, overrides)
    name = "_".join([*(choices[group] for group in NAMING), own])
    return root / name


def _directory_of_sweep(config_name: str, overrides: Sequence[str]) -> Path:
    """Where the runs of a sweep go, all of them into one directory.

    That of a named sweep depends on what all its runs have in common, so that the same command
    finds it again, and one with further values adds to it. Any other has the time in its name.
    """
    loader = GlobalHydra.instance().config_loader()
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    named = [o for o in parsed if o.key_or_group == SWEEP]
    varied = {o.key_or_group for o in parsed if o.is_sweep_override()}
    if named:
        cfg = compose(config_name, [str(named[0].input_line)], return_hydra_config=True)
        varied |= set(cfg.hydra.sweeper.get("params") or {})
    common = [str(o.input_line) for o in parsed if o.key_or_group not in varied]
    choices, root, own = _compose(config_name, common, tuple(varied))
    if named:
        return root / "sweeps" / f"{named[0].value()}_{own}"
    begun = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    alike = [choices[group] for group in NAMING if group not in varied]
    return root / "sweeps" / "_".join([begun, *alike])


def _compose(
    config_name: str, overrides: Sequence[str], without: tuple[str, ...] = ()
) -> tuple[dict[str, str], Path, str]:
    """The options that a command line chooses, its output_root, and the digest of its values."""
    cfg = compose(config_name, list(overrides), return_hydra_config=True)
    choices = {str(k): str(v) for k, v in cfg.hydra.runtime.choices.items()}
    values = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    OmegaConf.update(values, "paths.output_dir", "")
    typed = validate(values, SCHEMAS[config_name])
    return choices, Path(cfg.paths.output_root), digest(typed, without)


def _is_main_process() -> bool:
    """Whether this is no further process of one run, by what launchers set."""
    ranks = (os.environ.get(name, "0") for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return all(rank == "0" for rank in ranks)
