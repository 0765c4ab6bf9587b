"""One process per run directory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from icot.runs.layout import LOCK
from icot.system.locks import lock_file


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

    def explain(holder: str) -> str:
        return (
            f"{folder}: another process is training there ({holder}). Wait for its end or stop "
            "it, or set another directory, hydra.run.dir=..."
        )

    with lock_file(folder / LOCK, explain):
        yield
