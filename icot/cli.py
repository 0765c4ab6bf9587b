"""What all entry points share: compose, check everything, run, and speak plainly of mistakes."""

import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra import initialize_config_module
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from icot.config.checks import mistakes_in
from icot.config.schema import CONFIG_MODULE, register_schemas
from icot.errors import ConfigError, UserError
from icot.runs import directory
from icot.system.signals import signals

USER_ERROR = 2  # exit code
BeforeHydra = Callable[[str, list[str], bool], list[str]]


def run(
    config_name: str,
    function: Callable[[DictConfig], None],
    before_hydra: BeforeHydra | None = None,
) -> None:
    """Call ``function`` with the configuration that the command line composes.

    A user's mistake ends in its message and exit code 2, without a traceback; a signal in the exit
    code that ``icot.interruption`` says.

    Args:
        config_name: of the file under ``conf``.
        function: does the work.
        before_hydra: given that name, the command line's overrides and whether it is a multirun,
            says further overrides.
    """
    signals.listen()
    register_schemas()
    try:
        _check_command_line(config_name, before_hydra)
    except UserError as error:
        _stop(error)

    def guarded(cfg: DictConfig) -> str | None:
        try:
            function(cfg)
        except UserError as error:
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                _stop(error)
            print(f"{config_name}: {error}", file=sys.stderr)
            return str(error)  # the sweep's other runs go on
        return None

    hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name=config_name)(
        guarded
    )()


def _check_command_line(config_name: str, before_hydra: BeforeHydra | None) -> None:
    args, unknown = get_args_parser().parse_known_args()
    if unknown or args.config_name or args.config_path or args.config_dir:
        return  # another configuration, or none of ours: Hydra itself judges it
    shown = args.cfg or args.info or args.help or args.hydra_help or args.shell_completion
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        mistakes = mistakes_in(args.overrides, config_name, args.multirun)
        if mistakes:
            raise ConfigError(mistakes)
        if before_hydra and not shown:
            directory.added = before_hydra(config_name, args.overrides, args.multirun)
            sys.argv += directory.added


def _stop(error: UserError) -> None:
    print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
    raise SystemExit(USER_ERROR)


def quiet_libraries() -> None:
    """Leave to the user what the user can act on."""
    for name in ("lightning.pytorch", "lightning.fabric", "httpx", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


def plain(cfg: Any) -> Any:
    """A configuration as plain containers."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(cfg, resolve=True)
