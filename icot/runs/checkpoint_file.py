"""Checkpoint files: written atomically, with a checksum.

A file is the zip archive that ``torch.save`` writes, with the SHA-256 of all earlier bytes as the
archive's comment; ``torch.load`` and any zip tool can read it:

    PK... records ... PK end of directory | "sha256:" 64 hexadecimal digits
"""

import hashlib
import pickle
import zipfile
from pathlib import Path
from typing import IO, Any, cast

import torch

from icot.errors import RunError
from icot.system.files import replace_file

MARK = b"sha256:"
SEAL = len(MARK) + 64  # bytes of the comment
# Bytes of a zip archive's last record; its last two give the comment's length.
END_OF_DIRECTORY = 22
CHUNK = 2**20
# what torch.load raises for a file that is not a checkpoint
UNREADABLE = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    MemoryError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def save(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint.

    Raises:
        RunError: it cannot be written; what was at ``path`` is untouched.
    """
    with replace_file(path, "wb") as file:
        sealed = _Sealed(file)
        try:
            torch.save(content, cast(IO[bytes], sealed))
        except RuntimeError:
            if sealed.failure is not None:  # torch hides it behind its own error
                raise sealed.failure from None
            raise
        sealed.close()


def is_intact(path: Path) -> bool:
    """Whether a file is exactly what ``save`` wrote."""
    digest = hashlib.sha256()
    try:
        left = path.stat().st_size - SEAL
        with path.open("rb") as file:
            while left > 0 and (chunk := file.read(min(CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
            return left == 0 and file.read() == MARK + digest.hexdigest().encode()
    except OSError:
        return False


def is_sealed(path: Path) -> bool:
    """Whether a file has the checksum of ``save``; other programs' checkpoints do not."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - SEAL - END_OF_DIRECTORY))
        _, record, rest = file.read().rpartition(b"PK\5\6")
    return record != b"" and rest[END_OF_DIRECTORY - 6 :][:2] == SEAL.to_bytes(2, "little")


def load(path: Path, mmap: bool = False, verify: bool = True) -> dict[str, Any]:
    """Read a checkpoint's tensors, numbers and texts without running code from the file.

    Args:
        path: the file.
        mmap: leave the tensors in the file until they are used.
        verify: compare with the checksum, if there is one.

    Raises:
        RunError: it is damaged, or of another format.
    """
    try:
        if verify and is_sealed(path) and not is_intact(path):
            raise RunError(f"checkpoint {path}: damaged; its checksum does not fit its content.")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        if not isinstance(content, dict):
            raise TypeError
    except RunError:
        raise
    except UNREADABLE:
        raise RunError(
            f"checkpoint {path}: is not a checkpoint of icot, or is truncated or damaged."
        ) from None
    return content


class _Sealed:
    """Writes a zip archive to a file, and its checksum at the end."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest, self._tail = file, hashlib.sha256(), b""
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if len(view) >= END_OF_DIRECTORY:
            self._write_through(self._tail)
            self._write_through(view[:-END_OF_DIRECTORY])
            self._tail = bytes(view[-END_OF_DIRECTORY:])
        else:
            data = self._tail + bytes(view)
            self._write_through(data[:-END_OF_DIRECTORY])
            self._tail = data[-END_OF_DIRECTORY:]
        return len(view)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Set the comment's length in the archive's last record, and write the comment."""
        assert self._tail.startswith(b"PK\5\6")
        assert self._tail.endswith(b"\0\0")
        self._write_through(self._tail[:-2] + SEAL.to_bytes(2, "little"))
        self._file.write(MARK + self._digest.hexdigest().encode())

    def _write_through(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            self.failure = error
            raise
