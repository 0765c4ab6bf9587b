"""A user's own examples from text files, one line each: ``question||cot #### answer``.

    Tom has 3 apples and eats one. How many are left?||<<3-1=2>> #### 2

A line without exactly one ``||``, without a question, or without ``####`` and an answer is an error
that names file and line; ``on_bad_line="skip"`` skips and counts it. Commas in answers are removed.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from icot.errors import DataError
from icot.tasks import carries, gsm8k
from icot.tasks.base import Example, Split
from icot.tasks.lines import BYTE_ORDER_MARK, parse_line
from icot.tasks.reading import OnBadLine, ReadTask

# What the first version read in another way: a byte order mark, a comma in an answer, no question,
# no answer. Files without any of it keep their fingerprint, and so runs of that time their data.
READ_ANEW = [
    re.compile(pattern, re.MULTILINE)  # apart, they are found three times as fast
    for pattern in (rb"^\xef\xbb\xbf", rb"####.*,", rb"^[ \t]*\|\|", rb"####[ \t\r]*$")
]
ADVICE = (
    "A line must read 'question||cot #### answer'; task.on_bad_line=skip skips and counts such "
    "lines."
)


class TextFiles(ReadTask):
    """Examples from ``train``, ``valid`` and ``test`` files in one folder.

    Args:
        data_dir: the folder.
        train_file, valid_file, test_file: their names; None without such a split.
        train_size, valid_size, test_size: the number of examples to use, from the start.
        on_bad_line: ``raise`` or ``skip``.
        name: the name in reports and messages.

    Raises:
        DataError: a file is missing.
    """

    def __init__(
        self,
        data_dir: str | Path,
        train_file: str | None = "train.txt",
        valid_file: str | None = "valid.txt",
        test_file: str | None = "test.txt",
        train_size: int | None = None,
        valid_size: int | None = None,
        test_size: int | None = None,
        on_bad_line: OnBadLine = "raise",
        name: str = "text",
    ) -> None:
        sizes: dict[Split, int | None] = {
            "train": train_size,
            "valid": valid_size,
            "test": test_size,
        }
        super().__init__(sizes, on_bad_line)
        self.name = name
        files: dict[Split, str | None] = {
            "train": train_file,
            "valid": valid_file,
            "test": test_file,
        }
        self._paths = {s: Path(data_dir) / f for s, f in files.items() if f is not None}
        missing = [f"task.{s}_file={p}" for s, p in self._paths.items() if not p.is_file()]
        if missing:
            raise DataError(
                f"missing data files: {', '.join(missing)}. Set task.data_dir to the folder that "
                "holds them, or a file's name, or task.test_file=null if there is none."
            )

    def size(self, split: Split) -> int | None:
        """0 without such a split; else unknown before reading."""
        return None if split in self._paths else 0

    def fingerprint(self, split: Split) -> Mapping[str, Any]:
        """The file's content, the limit, and the treatment of bad lines."""
        digest, version = "", 1
        if split in self._paths:
            with self._paths[split].open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                if file.tell():  # an empty file cannot be mapped
                    with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                        version = 2 if any(p.search(content) for p in READ_ANEW) else 1
        return {
            "task": "text",
            "version": version,
            "sha256": digest,
            "limit": self.sizes[split],
            "on_bad_line": self.on_bad_line,
        }

    def path(self, split: Split) -> Path | None:
        """The file of a split; None without one."""
        return self._paths.get(split)

    def read(self, split: Split) -> Iterator[Example | None]:
        """The examples of a file in order, None for each bad line that is skipped.

        Raises:
            DataError: the file cannot be read, or has a bad line and ``on_bad_line`` is ``raise``.
        """
        path = self.path(split)
        if path is None:
            return
        try:
            with path.open("rb") as file:
                for number, raw in enumerate(file, start=1):
                    try:
                        yield parse_line(_decode(raw, is_first=number == 1))
                    except ValueError as error:
                        self.refuse(f"{path}, line {number}", error, ADVICE)
                        yield None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}).") from None

    def difficulty(self, example: Example) -> Mapping[str, float]:
        """The difficulty of a multiplication or of equations, if the text is of that kind."""
        return carries.difficulty(example.question) or gsm8k.difficulty(example.cot)

    def quantities(self, example: Example) -> Mapping[str, float]:
        """Those of a multiplication, if the text is one."""
        return carries.quantities(example.question)


def _decode(raw: bytes, is_first: bool) -> str:
    """The text of a line without its end, and without the byte order mark of a file."""
    try:
        line = raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte {error.start + 1} of the line)") from None
    return line.removeprefix(BYTE_ORDER_MARK) if is_first else line
