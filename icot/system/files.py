"""Atomic file writes: a file is written under a temporary name, then renamed.

If the process is killed or the disk is full, the previous file stays as it was.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from icot.errors import RunError

MIN_FREE_BYTES = 2**16  # a folder with less free space is refused before any work
PARTIAL = ".partial"  # suffix of a file that is being written


@contextmanager
def replace_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file to write to, which replaces ``path`` when the block ends without an error.

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
    """Turn an OSError from writing ``path`` into an error that says what to do.

    Raises:
        RunError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror or error}). Earlier files are intact. "
            "Free disk space or allow writing, then start again; resume=RUN_DIR resumes a run."
        ) from None


def write_text(path: Path, text: str) -> None:
    """Replace a text file.

    Raises:
        RunError: it cannot be written; what was at ``path`` is untouched.
    """
    with replace_file(path) as file:
        file.write(text)


def link(source: Path, path: Path) -> None:
    """Link ``path`` to a file, replacing what is there; copies it if links are not supported.

    Raises:
        RunError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    with explain_refusal(path):
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        temporary.replace(path)


def remove_partial_files(folder: Path) -> None:
    """Remove half-written files of killed processes; no other process may be writing."""
    for path in folder.glob(f".*{PARTIAL}"):
        with suppress(OSError):
            path.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power failure, if the file system supports it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_writable(folder: Path) -> None:
    """Check that files can be created in a folder, which may not exist yet.

    Raises:
        RunError: they cannot.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    with explain_refusal(folder), tempfile.TemporaryFile(dir=existing) as file:
        file.write(bytes(MIN_FREE_BYTES))
        file.flush()
