"""One process per run directory."""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from icot.errors import RunError
from icot.runs.layout import LOCK
from icot.system.files import explain_refusal


@contextmanager
def lock_run(folder: Path, wanted: bool = True) -> Iterator[None]:
    """Keep other processes out of a run directory, for as long as this one lives.

    Args:
        folder: the run directory, made if it is not there.
        wanted: False for the further processes of one run, which its first one lets in.

    Raises:
        RunError: another process is at work there, or nothing can be written.
    """
    if not wanted:
        yield
        return
    path = folder / LOCK
    with explain_refusal(path):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{folder}: another process is training there ({file.read().strip()}). Wait for "
                "its end or stop it, or name another directory, hydra.run.dir=..."
            ) from None
        except OSError:  # a file system without locks
            pass
        file.truncate()
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield
