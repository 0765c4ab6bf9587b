"""What every command does first: compose, check, and hand over; nothing heavy is imported here.

    python -m icot.train task=mult4      icot train task=mult4

A user's mistake ends in its message and exit code 2, without a traceback; a signal in the exit code
that ``icot.system.signals`` says.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from string import Template
from textwrap import fill

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from icot.config.checks import validate
from icot.config.command_line import (
    PIPELINE,
    CommandLine,
    GroupOptions,
    chosen_options,
    compose_config,
    compose_values,
    mistakes_in,
    name_folders,
    named_values,
    unquote,
)
from icot.config.entry_points import SCHEMAS, PipelineConfig, register_schemas
from icot.config.experiments import CONFIG_MODULE, SUFFIX
from icot.config.experiments import GROUP as EXPERIMENT
from icot.errors import ConfigError, UserError, first_line
from icot.runs.kept_run import check_sources
from icot.runs.pipelines import check_steps, plan_steps, split_overrides
from icot.runs.places import directory_overrides, find_run_to_resume, run_options
from icot.runs.resume import resolve_config
from icot.system.files import check_writable
from icot.system.signals import signals

USER_ERROR = 2  # exit code
SEARCH_PATH = "hydra.searchpath"


def main() -> None:
    """``icot COMMAND ...``, the console script."""
    names = ", ".join(SCHEMAS)
    if len(sys.argv) < 2 or sys.argv[1] not in SCHEMAS:
        asked_for_help = len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help")
        print(f"icot COMMAND [key=value ...]; icot COMMAND --help says more.\nCommands: {names}")
        raise SystemExit(0 if asked_for_help else USER_ERROR)
    name = sys.argv.pop(1)
    run(name)


def run(name: str) -> None:
    """Run a command with the configuration that the process's command line composes.

    Args:
        name: the command's, ``train``; its module is ``icot.commands.NAME``.
    """
    signals.listen()
    register_schemas()
    typed = _program_call(name)
    if name == "report":
        sys.argv[1:] = name_folders(sys.argv[1:])
    for_steps: tuple[str, ...] = ()
    try:
        if name == PIPELINE:
            sys.argv[1:], for_steps = _take_overrides_of_steps(sys.argv[1:])
        added = _check(name, sys.argv[1:], for_steps)
    except UserError as error:
        _stop(name, error)
    sys.argv += added

    def run_command(composed: DictConfig) -> str | None:
        try:
            command_line = replace(_command_line(name, typed, added), for_steps=for_steps)
            trains = name == "train"  # or goes on, by the run's own configuration
            cfg = (
                resolve_config(composed, command_line)
                if trains
                else validate(composed, SCHEMAS[name])
            )
            check_sources(cfg)  # before anything heavy is imported
            import_module(f"icot.commands.{name}").run(cfg, command_line)
        except UserError as error:
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                _stop(name, error)
            print(f"{name}: {error}", file=sys.stderr)
            return str(error)  # the sweep's other runs go on
        return None

    command: Callable[[], None] = hydra.main(
        version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name=name
    )(run_command)
    command()


def _take_overrides_of_steps(arguments: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """The command line of icot.pipeline itself, and the overrides of its steps.

    Raises:
        ConfigError: it asks for several pipelines.
    """
    args, _ = get_args_parser().parse_known_args(arguments)
    if args.multirun:
        raise ConfigError(["-m: a pipeline is one at a time; start it again for another seed"])
    _, for_steps = split_overrides(args.overrides)
    return [word for word in arguments if word not in for_steps], tuple(for_steps)


def _program_call(name: str) -> tuple[str, ...]:
    """The words of the shell that began this process."""
    module = getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", None)
    if module:
        return ("python", "-m", module, *sys.argv[1:])
    if Path(sys.argv[0]).stem == "icot":
        return ("icot", name, *sys.argv[1:])
    return ("python", sys.argv[0], *sys.argv[1:])


def _command_line(name: str, typed: tuple[str, ...], added: Sequence[str]) -> CommandLine:
    """What was asked for, as Hydra tells it within a run."""
    known = HydraConfig.get()
    multirun = known.mode == RunMode.MULTIRUN
    return CommandLine(
        name=name,
        overrides=tuple(str(o) for o in known.overrides.task if str(o) not in added),
        choices=chosen_options(known.runtime.choices),
        sweep=Path(known.sweep.dir) if multirun else None,
        subdir=str(known.sweep.subdir) if multirun else "",
        program=typed,
    )


def _check(name: str, arguments: Sequence[str], for_steps: Sequence[str] = ()) -> list[str]:
    """Judge a command line; returns what it has to say further, so that the run finds its place.

    Args:
        name: of the command.
        arguments: the command line.
        for_steps: the overrides of a pipeline's steps.

    Raises:
        UserError: with all mistakes.
    """
    args, unknown = get_args_parser().parse_known_args(list(arguments))
    if unknown or args.config_name or args.config_path:
        return []  # another configuration, or none of ours: Hydra itself judges it
    shown = args.cfg or args.info or args.hydra_help or args.shell_completion
    if args.help:
        with hydra_at(_folders(args)):
            try:
                print(_help(name, args.overrides))
            except (HydraException, OmegaConfBaseException) as error:
                raise ConfigError([first_line(error)]) from None
        raise SystemExit(0)
    trains = name == "train" and not shown
    resumed = find_run_to_resume(args.overrides) if trains and not args.multirun else None
    with hydra_at(_folders(args)):
        own = [] if resumed is None else run_options(resumed, args.overrides)
        mistakes = mistakes_in([*own, *args.overrides], name, args.multirun)
        if mistakes:
            raise ConfigError(mistakes)
        if name == PIPELINE and not shown:
            cfg = compose_config(name, args.overrides)
            assert isinstance(cfg, PipelineConfig)
            check_steps(plan_steps(cfg.steps, for_steps))
        if not shown:
            _check_directory(
                "hydra.sweep.dir" if args.multirun else "hydra.run.dir", args.overrides
            )
        return [*own, *directory_overrides(name, args.overrides, args.multirun)] if trains else []


def _check_directory(key: str, overrides: Sequence[str]) -> None:
    """Check that Hydra can make the directory that a command line names.

    Raises:
        RunError: it cannot.
    """
    named = unquote(named_values(overrides).get(key, ""))
    if named and "${" not in named:
        check_writable(Path(named))


def _help(name: str, overrides: Sequence[str]) -> str:
    """What a command does, the options of each group, and the configuration it composes.

    The texts are those of ``hydra.help`` in the command's YAML file.
    """
    cfg = hydra.compose(name, list(overrides), return_hydra_config=True)
    options = GroupOptions()
    groups = "\n".join(_list_options(group, options.of(group)) for group in options.groups)
    values = OmegaConf.to_yaml(compose_values(name, overrides))
    return Template(cfg.hydra.help.template).safe_substitute(
        CONFIG=values, APP_CONFIG_GROUPS=groups
    )


def _list_options(group: str, options: Sequence[str]) -> str:
    """A group and its options; an experiment once, though it has a longer name and a sibling."""
    siblings = {o + SUFFIX for o in options}
    shown = [o for o in options if "/" not in o and o not in siblings]
    more = f" (each of a paper with {SUFFIX} too, for two CPU cores)" if group == EXPERIMENT else ""
    text = f"{group}: {', '.join(shown)}{more}"
    return fill(text, 98, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _folders(args: Namespace) -> list[str]:
    """Folders of the user's own with further configuration files."""
    places = [f"file://{Path(args.config_dir).absolute()}"] if args.config_dir else []
    further = named_values(args.overrides).get(SEARCH_PATH, "").strip("[]")
    return [*places, *(unquote(p.strip()) for p in further.split(",") if p.strip())]


@contextmanager
def hydra_at(folders: Sequence[str]) -> Iterator[None]:
    """Hydra with icot's configuration and that of the user's own folders, for composing.

    Raises:
        ConfigError: a folder does not exist.
    """
    path = create_config_search_path(f"pkg://{CONFIG_MODULE}")
    for folder in folders:
        local = folder.removeprefix("file://")
        if "://" not in local and not Path(local).is_dir():
            raise ConfigError([f"{local}: there is no such folder of configuration files"])
        path.prepend(provider="command-line", path=folder if "://" in folder else f"file://{local}")
    GlobalHydra.instance().clear()
    Hydra.create_main_hydra2(task_name="icot", config_search_path=path)
    try:
        yield
    finally:
        GlobalHydra.instance().clear()


def compose_run(name: str, arguments: Sequence[str]) -> tuple[DictConfig, CommandLine]:
    """What a command line composes, without starting a process for it: for the Python API.

    Raises:
        ConfigError: with all mistakes.
    """
    register_schemas()
    if flags := [a for a in arguments if a.startswith("-")]:
        raise ConfigError([f"{a}: of a command line, not of icot.{name}(...)" for a in flags])
    added = _check(name, arguments)
    args = get_args_parser().parse_args([*arguments, *added])
    with hydra_at(_folders(args)):
        try:
            cfg = hydra.compose(name, args.overrides, return_hydra_config=True)
        except HydraException as error:
            raise ConfigError([first_line(error)]) from None
        HydraConfig.instance().set_config(cfg)  # for what is to be read from it, and read-only
        OmegaConf.set_readonly(cfg.hydra, False)
        cfg.hydra.runtime.output_dir = str(Path(cfg.hydra.run.dir).absolute())
        HydraConfig.instance().set_config(cfg)
        typed = ("python", "-m", f"icot.{name}", *arguments)
        command = _command_line(name, typed, added)
        composed = OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k != "hydra"])
        OmegaConf.resolve(composed)
    return composed, command


def _stop(name: str, error: UserError) -> None:
    print(f"{name}: {error}", file=sys.stderr)
    raise SystemExit(USER_ERROR)
