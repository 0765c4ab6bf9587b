"""Builds the client of a server from its configuration."""

from pathlib import Path
from typing import TYPE_CHECKING

from icot.config.endpoint_options import BudgetConfig, EndpointOptions
from icot.config.schema import PathsConfig
from icot.errors import ConfigError
from icot.inference.completions import Decoding
from icot.inference.request_cache import RequestCache

if TYPE_CHECKING:
    from icot.inference.endpoint import Endpoint


def build_endpoint(
    options: EndpointOptions, decoding: Decoding, paths: PathsConfig, budget: BudgetConfig
) -> "Endpoint":
    """The client of a server, with the cache of all commands.

    Raises:
        ConfigError: a package is missing.
        RunError: the cache cannot be opened.
    """
    try:
        from icot.inference.endpoint import Endpoint  # of the extra "teachers"
    except ModuleNotFoundError as error:
        raise ConfigError(
            [f"a server needs the package {error.name}: pip install 'icot[teachers]'"]
        ) from None
    return Endpoint(options, decoding, RequestCache(Path(paths.cache_dir)), budget)
