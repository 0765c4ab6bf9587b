"""One checkpoint on disk: written whole or not at all, and able to tell whether it is intact.

A file is what ``torch.save`` writes, a zip archive, with the SHA-256 of all bytes before it as the
archive's comment; so ``torch.load`` and any zip tool read it as well:

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
# what torch.load says of a file that is no checkpoint
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
            if sealed.failure is not None:  # torch hides it behind a complaint of its own
                raise sealed.failure from None
            raise
        sealed.close()


def is_intact(path: Path) -> bool:
    """Whether a file is byte for byte what ``save`` has written."""
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
    """Whether a file ends as ``save`` ends it; other programs' checkpoints do not."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - SEAL - END_OF_DIRECTORY))
        _, record, rest = file.read().rpartition(b"PK\5\6")
    return record != b"" and rest[END_OF_DIRECTORY - 6 :][:2] == SEAL.to_bytes(2, "little")


def load(path: Path, mmap: bool = False, verify: bool = True) -> dict[str, Any]:
    """Read a checkpoint's tensors, numbers and texts; nothing in the file is run as code.

    Args:
        path: the file.
        mmap: leave the tensors in the file until they are used.
        verify: compare with the checksum, where there is one.

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
            f"checkpoint {path}: cannot be read as one of icot's; it is truncated, damaged or of "
            "another format."
        ) from None
    return content


class _Sealed:
    """Passes a zip archive on to a file and closes it with its checksum."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest, self._tail = file, hashlib.sha256(), b""
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if len(view) >= END_OF_DIRECTORY:
            self._pass_on(self._tail)
            self._pass_on(view[:-END_OF_DIRECTORY])
            self._tail = bytes(view[-END_OF_DIRECTORY:])
        else:
            held = self._tail + bytes(view)
            self._pass_on(held[:-END_OF_DIRECTORY])
            self._tail = held[-END_OF_DIRECTORY:]
        return len(view)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Announce the comment in the archive's last record, and write it."""
        assert self._tail.startswith(b"PK\5\6")
        assert self._tail.endswith(b"\0\0")
        self._pass_on(self._tail[:-2] + SEAL.to_bytes(2, "little"))
        self._file.write(MARK + self._digest.hexdigest().encode())

    def _pass_on(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            self.failure = error
            raise
