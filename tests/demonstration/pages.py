"""Pages that are really served, in this process."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from icot.commands.demo import make_service, open_page
from icot.config.checks import validate
from icot.config.entry_points import DemoConfig
from icot.demonstration.service import Service


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def config(*folders: Path, **options: Any) -> DemoConfig:
    paths = {"output_dir": "", "cache_dir": str(folders[0].parent / "cache")}
    values = {"run_dir": [str(f) for f in folders], "port": free_port(), "paths": paths, **options}
    return validate(values, DemoConfig)


def service(*folders: Path, keep: int = 4) -> Service:
    return make_service(config(*folders, keep_loaded=keep, tally=10))


@contextmanager
def served(*folders: Path, **options: Any) -> Iterator[str]:
    """The address of a page of these folders."""
    page, address = open_page(config(*folders, **options))
    try:
        yield address
    finally:
        page.close(verbose=False)
