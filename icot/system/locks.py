"""Locks between processes; the system frees those of a process that was killed."""

import fcntl
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from icot.errors import RunError
from icot.system.files import explain_refusal


@contextmanager
def lock_file(
    path: Path, taken: Callable[[str], str] | None = None, keep: bool = True
) -> Iterator[bool]:
    """Hold a lock on a file, which is created if it does not exist.

    Args:
        path: the file; its folder is created too.
        taken: from the process that holds the lock, ``process 7 on NODE``, to the error message;
            None waits for that process.
        keep: leave the file there afterwards.

    Yields:
        Whether the lock is held: False on a file system without locks.

    Raises:
        RunError: another process holds the lock, or the file cannot be written.
    """
    descriptor = _open(path)
    try:
        held = _acquire(descriptor, taken)
        while held and not _is_at(descriptor, path):  # its last holder has just removed it
            os.close(descriptor)
            descriptor = _open(path)
            held = _acquire(descriptor, taken)
        if held:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
        try:
            yield held
        finally:
            if held and not keep:
                path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    with explain_refusal(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)


def _acquire(descriptor: int, taken: Callable[[str], str] | None) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if taken is None else fcntl.LOCK_NB))
    except BlockingIOError:
        assert taken is not None
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        raise RunError(taken(holder or "unknown")) from None
    except OSError:  # a file system without locks
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
