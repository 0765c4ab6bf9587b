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
    """Lock a run directory for this process.

    Args:
        folder: the run directory; created if it does not exist.
        wanted: False does nothing, for all processes of a run except its first.

    Raises:
        RunError: another process uses the directory, or it cannot be written.
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
                "its end or stop it, or set another directory, hydra.run.dir=..."
            ) from None
        except OSError:  # a file system without locks
            pass
        file.truncate()
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield
