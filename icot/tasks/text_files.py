"""A user's own examples from text files, one line each: ``question||cot #### answer``.

    Tom has 3 apples and eats one. How many are left?||<<3-1=2>> #### 2

A line without exactly one ``||``, or without ``####``, is an error that names file and line;
``on_bad_line="skip"`` skips and counts it.
"""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from icot.errors import DataError
from icot.tasks import gsm8k, multiplication
from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Example, Split, Task

CHUNK = 20_000


def parse_line(line: str) -> Example:
    """The example in one line.

    Raises:
        ValueError: the line is not in the format; the message says why.
    """
    parts = line.split("||")
    if len(parts) != 2:
        raise ValueError(f"has {len(parts) - 1} times '||' instead of once")
    question, rest = parts
    cot, mark, answer = rest.partition(ANSWER_MARK)
    if not mark:
        raise ValueError(f"has no '{ANSWER_MARK}' before the answer")
    return Example(question.strip(), cot.strip(), answer.strip())


def read_examples(
    path: Path, on_bad_line: Literal["raise", "skip"] = "raise"
) -> Iterator[Example | None]:
    """The examples of a file in order, None for each bad line that is skipped.

    Raises:
        DataError: the file cannot be read, or has a bad line and ``on_bad_line`` is ``raise``.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    yield parse_line(raw.decode("utf-8").rstrip("\r\n"))
                except ValueError as error:  # UnicodeDecodeError is one
                    if on_bad_line == "raise":
                        raise DataError(
                            f"{path}, line {number}: {error}. A line must read "
                            "'question||cot #### answer'; task.on_bad_line=skip skips and counts "
                            "such lines."
                        ) from None
                    yield None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None


class TextFiles(Task):
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
        on_bad_line: Literal["raise", "skip"] = "raise",
        name: str = "text",
    ) -> None:
        self.name = name
        self.on_bad_line = on_bad_line
        files: dict[Split, str | None] = {
            "train": train_file,
            "valid": valid_file,
            "test": test_file,
        }
        self._limits: dict[Split, int | None] = {
            "train": train_size,
            "valid": valid_size,
            "test": test_size,
        }
        self._paths = {s: Path(data_dir) / f for s, f in files.items() if f is not None}
        self._skipped: dict[Split, int] = {}
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
        digest = ""
        if split in self._paths:
            with self._paths[split].open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {
            "task": "text",
            "version": 1,
            "sha256": digest,
            "limit": self._limits[split],
            "on_bad_line": self.on_bad_line,
        }

    def chunks(self, split: Split) -> Iterator[list[Example]]:
        """The examples of ``split``, 20,000 lines at a time."""
        if split not in self._paths:
            return
        self._skipped[split] = 0
        left = self._limits[split]
        rows = read_examples(self._paths[split], self.on_bad_line)
        while (left is None or left > 0) and (lines := list(islice(rows, CHUNK))):
            examples = [e for e in lines if e is not None]
            self._skipped[split] += len(lines) - len(examples)
            examples = examples[:left]
            left = None if left is None else left - len(examples)
            yield examples

    def difficulty(self, example: Example) -> Mapping[str, float]:
        """The difficulty of a multiplication or of equations, if the text is of that kind."""
        return multiplication.difficulty(example.question) or gsm8k.difficulty(example.cot)

    def leaves_out(self, split: Split, example: Example) -> bool:
        """Such a line counts as a bad line."""
        if self.on_bad_line == "skip":
            self._skipped[split] = self.skipped(split) + 1
        return self.on_bad_line == "skip"

    def skipped(self, split: Split) -> int:
        """The number of bad lines skipped when ``split`` was last read."""
        return self._skipped.get(split, 0)
