"""The folder that a command writes: for one process at a time, and all of it or nothing."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from icot.system.files import PARTIAL, check_writable, explain_refusal
from icot.system.locks import lock_file


@contextmanager
def lock_output(out: Path) -> Iterator[None]:
    """Keep other processes from writing the same folder.

    Raises:
        RunError: another process writes there, or this one may not.
    """
    check_writable(out)

    def explain(holder: str) -> str:
        return (
            f"out={out}: another process is writing there ({holder}). Wait for its end or stop it, "
            "or set another folder."
        )

    with lock_file(_beside(out, ".lock"), explain, keep=False):
        yield


@contextmanager
def write_at_once(out: Path) -> Iterator[Path]:
    """A folder to write into, whose files appear in ``out`` when all are written.

    The caller has locked the output. A killed process leaves ``out`` as it was; what else it
    leaves, the next one removes. Files of the same names in ``out`` are replaced, others stay.

    Raises:
        RunError: it cannot be written.
    """
    partial = _beside(out, PARTIAL)
    with explain_refusal(out):
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            yield partial
            _move(partial, out.resolve())
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _move(partial: Path, out: Path) -> None:
    if not out.exists() or (partial.parent != out and out.is_dir() and not any(out.iterdir())):
        partial.replace(out)
        return
    written = sorted(partial.iterdir())
    if len(written) > 1:
        # A process killed between two of these steps leaves files missing, which is noticed, and
        # not old ones beside new ones.
        for path in written:
            (out / path.name).unlink(missing_ok=True)
    for path in written:
        path.replace(out / path.name)


def _beside(out: Path, suffix: str) -> Path:
    """A hidden name beside the folder; within it where it cannot be put into place from beside."""
    out = out.resolve()
    within = out.is_dir() and (os.path.ismount(out) or not os.access(out.parent, os.W_OK))
    return (out if within else out.parent) / f".{out.name}{suffix}"
