"""Questions from records: JSON files, JSON lines, or a data set of the hub.

A record is a set of named values, whose names differ from one publication to the next; ``format``
says which. A file is a list of records, an object that has one as a value, or a record a line.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from icot.errors import DataError
from icot.tasks import gsm8k, prontoqa, prosqa, word_problems
from icot.tasks.base import SPLITS, Example, Split
from icot.tasks.hub import held_out_part, hub_rows
from icot.tasks.reading import OnBadLine, ReadTask

FORMATS: dict[str, Callable[[Mapping[str, Any]], Example]] = {
    "gsm8k": gsm8k.example_from_row,
    "gsm8k_nl": gsm8k.natural_example_from_row,
    "svamp": word_problems.svamp,
    "multiarith": word_problems.multiarith,
    "gsm_hard": word_problems.gsm_hard,
    "prosqa": prosqa.example_from_row,
    "prontoqa": prontoqa.example_from_row,
}
FILES = (".json", ".jsonl")  # how their names end
ADVICE = "task.on_bad_line=skip skips and counts such records."


class Records(ReadTask):
    """Examples from the records of files in one folder, or of a data set.

    Args:
        format: what the records look like, one of ``FORMATS``.
        data_dir: the folder of the files; None reads ``dataset``.
        train_file, valid_file, test_file: the names of the files, or of the data set's splits; None
            without such a split. If all are None, the usual names: ``train.jsonl`` or
            ``train.json`` and so on, and ``train``, ``validation``, ``test``. In ``data_dir`` a
            name of the data set's split is the usual file: of ``test_file: train``, ``test.jsonl``.
        dataset: hub name, or a folder that ``datasets`` can load.
        subset: the data set's configuration name.
        revision: a commit or tag that pins the download.
        held_out: without a validation split, this many last training records become it.
        train_size, valid_size, test_size: the number of examples to use, from the start.
        on_bad_line: at a record that makes no example, ``raise`` or ``skip``.
        name: the name in reports and messages; None is the format.

    Raises:
        ValueError: there is no such format, neither a folder nor a data set, or a file without its
            folder.
        DataError: a file is missing; the training file only when it is read.
    """

    def __init__(
        self,
        format: str,
        data_dir: str | Path | None = None,
        train_file: str | None = None,
        valid_file: str | None = None,
        test_file: str | None = None,
        dataset: str | None = None,
        subset: str | None = None,
        revision: str | None = None,
        held_out: int = 500,
        train_size: int | None = None,
        valid_size: int | None = None,
        test_size: int | None = None,
        on_bad_line: OnBadLine = "raise",
        name: str | None = None,
    ) -> None:
        sizes: dict[Split, int | None] = {
            "train": train_size,
            "valid": valid_size,
            "test": test_size,
        }
        super().__init__(sizes, on_bad_line)
        if data_dir is None and dataset is None:
            raise ValueError("task.data_dir or task.dataset must say where the records are")
        self.convert = self.converter(format)
        self.format, self.name, self.held_out = format, name or format, held_out
        self.dataset, self.subset, self.revision = dataset, subset, revision
        given = zip(SPLITS, (train_file, valid_file, test_file), strict=True)
        self._names = {split: name for split, name in given if name is not None}
        for split, file in self._names.items():
            if data_dir is None and file.endswith(FILES):
                raise ValueError(
                    f"task.{split}_file={file} is a file, but without task.data_dir it names a "
                    f"split of {dataset}: set task.data_dir to the file's folder"
                )
        self._local = data_dir is not None
        self._paths: dict[Split, Path] = {}
        if data_dir is not None:
            self._paths = _find(Path(data_dir), self._names, dataset is not None)

    def converter(self, format: str) -> Callable[[Mapping[str, Any]], Example]:
        """What makes an example of a record.

        Raises:
            ValueError: there is no such format.
        """
        if format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {format}")
        return FORMATS[format]

    def size(self, split: Split) -> int | None:
        """0 without such a split; else unknown before reading."""
        if self._local:
            return 0 if self._path(split) is None else None
        if split == "valid" and "valid" not in self._names and self.held_out > 0:
            split = "train"
        return 0 if self._names and split not in self._names else None

    def fingerprint(self, split: Split) -> Mapping[str, Any]:
        """The format, the file's content or the data set's revision, and the limits."""
        path, digest = self._existing(split), ""
        if path is not None:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        source: list[str | None] = [digest]
        if not self._local:
            source = [self.dataset, self.subset, self.revision, self._names.get(split)]
        return {
            "task": type(self).__name__,
            "version": 1,
            "format": self.format,
            "source": source,
            "held_out": self.held_out if self._holds_out(split) else 0,
            "split": split,
            "limit": self.sizes[split],
            "on_bad_line": self.on_bad_line,
        }

    def read(self, split: Split) -> Iterator[Example | None]:
        """The examples in order, None for each bad record that is skipped.

        Raises:
            DataError: the records cannot be read, or one is bad and ``on_bad_line`` is ``raise``.
        """
        return self.read_as(split, self.convert)

    def read_as(
        self, split: Split, convert: Callable[[Mapping[str, Any]], Example]
    ) -> Iterator[Example | None]:
        """The same with another way to make an example of a record."""
        for where, record in self._records(split):
            try:
                if not isinstance(record, Mapping):
                    raise ValueError(f"is {record!r:.60}, not a record of named values")
                yield convert(record)
            except KeyError as error:
                names = ", ".join(record)
                self.refuse(where, ValueError(f"has no {error}, it has {names}"), ADVICE)
                yield None
            except (ValueError, TypeError, AttributeError) as error:
                self.refuse(where, ValueError(str(error)), ADVICE)
                yield None

    def difficulty(self, example: Example) -> Mapping[str, float | str]:
        """The number of equations, where the chain has any."""
        return gsm8k.difficulty(example.cot)

    def _path(self, split: Split) -> Path | None:
        return self._paths.get("train" if self._holds_out(split) else split)

    def _existing(self, split: Split) -> Path | None:
        path = self._path(split)
        if path is not None and not path.is_file():
            raise _missing(f"task.train_file={path}")
        return path

    def _holds_out(self, split: Split) -> bool:
        """Whether a local split is a part of the training file."""
        return split != "test" and "valid" not in self._paths and self.held_out > 0

    def _records(self, split: Split) -> Iterator[tuple[str, Any]]:
        """The place of each record, for messages, and the record."""
        path = self._existing(split)
        if path is not None:
            rows = read_records(path)
            part = range(len(rows))
            if self._holds_out(split):
                part = held_out_part(split, len(rows), self.held_out, str(path))
            yield from (rows[i] for i in part)
        elif not self._local:
            assert self.dataset is not None
            name, begin, found = hub_rows(
                self.dataset, self.subset, self.revision, split, self.held_out, self._names
            )
            for i, row in enumerate(found, begin):
                yield f"data set {self.dataset}, split {name}, row {i} (counted from 0)", row


def _find(folder: Path, names: Mapping[Split, str], of_hub: bool) -> dict[Split, Path]:
    """The file of each split.

    Args:
        folder: that holds them.
        names: of the files; none are the usual ones.
        of_hub: a name may be that of a data set's split.

    Raises:
        DataError: one is missing, or there is none at all; a training file may be missing until it
            is read.
    """
    usual = {split: _usual_file(folder, split) for split in SPLITS}
    wanted = {split: path for split, path in usual.items() if path.is_file()}
    if names:
        wanted = {split: folder / name for split, name in names.items()}
        for split, path in wanted.items():
            if of_hub and not path.name.endswith(FILES) and not path.is_file():
                wanted[split] = usual[split]
    missing = {split: path for split, path in wanted.items() if not path.is_file()}
    if missing.keys() - {"train"} or missing == wanted:
        what = ", ".join(f"task.{split}_file={path}" for split, path in missing.items())
        raise _missing(what or f"{folder} has neither train, valid nor test.jsonl (or .json)")
    return wanted


def _missing(what: str) -> DataError:
    return DataError(
        f"missing data files: {what}. Set task.data_dir to the folder that holds them, a "
        "file's name (task.test_file=NAME), or task.train_file=null if there is none."
    )


def _usual_file(folder: Path, split: Split) -> Path:
    """A split's ``.jsonl``, or its ``.json`` if only that is there."""
    paths = [folder / f"{split}{end}" for end in reversed(FILES)]
    return next((path for path in paths if path.is_file()), paths[0])


def read_records(path: Path) -> list[tuple[str, Any]]:
    """The place of each record of a file, for messages, and the record.

    Raises:
        DataError: the file cannot be read, or is not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from None
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return _read_lines(path, text)
    if isinstance(whole, Mapping):
        lists = [value for value in whole.values() if isinstance(value, list)]
        of_records = [rows for rows in lists if rows and isinstance(rows[0], Mapping)]
        whole = of_records[0] if len(of_records) == 1 else [whole]
    if not isinstance(whole, list):
        raise DataError(f"{path}: is neither a list of records nor a record a line.")
    return [(f"{path}, record {i} (counted from 0)", record) for i, record in enumerate(whole)]


def _read_lines(path: Path, text: str) -> list[tuple[str, Any]]:
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                found.append((f"{path}, line {number}", json.loads(line)))
            except (ValueError, RecursionError):
                raise DataError(
                    f"{path}, line {number}: is not JSON. A file is a list of records, or has a "
                    "record a line."
                ) from None
    return found
