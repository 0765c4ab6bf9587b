"""Files that are whole or not there: written beside their place, then moved into it.

A process that is killed, or a disk that is full, leaves the file that was there before.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from icot.errors import RunError

ROOM = 2**16  # bytes; a folder with less free space is refused before any work
PARTIAL = ".partial"  # suffix of a file that is being written


@contextmanager
def replace_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file to write to, which takes the place of ``path`` once the block has ended well.

    A symbolic link at ``path`` is replaced, not followed.

    Raises:
        RunError: it cannot be written; what was at ``path`` is untouched.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    with explain_refusal(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open(mode, **text) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _sync_folder(path.parent)
        finally:
            with suppress(OSError):
                partial.unlink()


@contextmanager
def explain_refusal(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write ``path`` into an error that says what to do.

    Raises:
        RunError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror or error}). What was there before is "
            "whole. Make room or give leave to write, then start again; resume=RUN_DIR goes on "
            "with a run."
        ) from None


def write_text(path: Path, text: str) -> None:
    """Replace a text file.

    Raises:
        RunError: it cannot be written; what was at ``path`` is untouched.
    """
    with replace_file(path) as file:
        file.write(text)


def link(source: Path, path: Path) -> None:
    """Let a file be known by another name too, which may exist; a copy where links cannot be.

    Raises:
        RunError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    with explain_refusal(path):
        beside.unlink(missing_ok=True)
        try:
            os.link(source, beside)
        except OSError:
            shutil.copyfile(source, beside)
        beside.replace(path)


def remove_partial_files(folder: Path) -> None:
    """Remove what killed processes have left half written; no other process may be at work."""
    for path in folder.glob(f".*{PARTIAL}"):
        with suppress(OSError):
            path.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power failure, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_writable(folder: Path) -> None:
    """Whether files can be made in a folder, or where it would be made.

    Raises:
        RunError: they cannot.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    with explain_refusal(folder), tempfile.TemporaryFile(dir=place) as file:
        file.write(bytes(ROOM))
        file.flush()
