"""The folders of evaluations: each has its own, so that none is overwritten.

outputs/RUN/
    evaluations/final_valid/       evaluation.json, predictions.jsonl, figures
    evaluations/final_valid-2/     the same weights and examples, evaluated again
    evaluations/all_test/          with tradeoff.csv and the predictions of each stage
    evaluations.csv                a row for each of them
    evaluation.json                a copy of the newest

A scored file of predictions has the same beside it. A folder given by ``out=`` holds one
evaluation, whose files are directly in it.
"""

import csv
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from icot.errors import RunError
from icot.runs.layout import EVALUATION, EVALUATIONS, EVALUATIONS_INDEX
from icot.system.files import PARTIAL, explain_refusal, link, replace_file, write_text

COLUMNS = (
    "folder", "evaluated", "name", "stage", "tokens_removed", "fully_internalized", "data", "split",
    "n", "accuracy", "accuracy_low", "accuracy_high", "speed_over_no_cot",
)  # fmt: skip
EARLIER = "earlier"  # name of an evaluation that version 0.1.0 wrote into the run directory itself


@dataclass(frozen=True)
class KeptEvaluation:
    """An evaluation on disk: the folder of its files, and the content of its evaluation.json."""

    folder: Path
    record: dict[str, Any]

    @property
    def evaluated(self) -> str:
        """When, in ISO 8601."""
        written = (self.folder / EVALUATION).stat().st_mtime
        return str(self.record.get("evaluated") or _iso(datetime.fromtimestamp(written)))

    @property
    def speed(self) -> Mapping[str, Any]:
        """The measured speed by name; empty if it was not measured."""
        found = self.record.get("speed")
        return found if isinstance(found, dict) else {}


def check_place(home: Path, out: str | None, files: Sequence[str]) -> None:
    """Check, before any work, that an evaluation can be written.

    Args:
        home: the run directory, or the folder of a scored file.
        out: the folder given by the user; None for a new one in ``home``.
        files: the names, or patterns of names, of the files to write.

    Raises:
        RunError: the folder is not writable, or ``out`` contains such a file.
    """
    folder = home if out is None else Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"out={folder}: cannot be made ({error.strerror}).") from None
    if not os.access(folder, os.W_OK):
        raise RunError(f"{folder} cannot be written into; set out= to another folder.")
    there = [path.name for name in files for path in folder.glob(name)] if out else []
    if there:
        raise RunError(
            f"out={out} holds {there[0]} already, which is not overwritten. Choose another folder, "
            f"or leave out= away: each evaluation then gets its own folder in {home / EVALUATIONS}."
        )


@dataclass
class Place:
    """The folder to write to; after the end of ``keep_evaluation`` the final one."""

    folder: Path


@contextmanager
def keep_evaluation(home: Path, out: str | None, *named_by: str) -> Iterator[Place]:
    """A folder for the files of an evaluation, which appears only when all are written.

    Args:
        home, out: as in ``check_place``.
        named_by: what was evaluated; the parts of the folder's name.

    Raises:
        RunError: it cannot be written.
    """
    if out is not None:
        yield Place(Path(out))
        return
    place = home / EVALUATIONS
    name = re.sub(r"[^\w-]+", "-", "_".join(named_by)).strip("-") or "evaluation"
    writing = Place(place / f".{name}.{os.getpid()}{PARTIAL}")
    with explain_refusal(place):
        try:
            writing.folder.mkdir(parents=True, exist_ok=True)
            yield writing
            _keep_earlier(home)
            writing.folder = _move_to_free_name(writing.folder, place / name)
            link(writing.folder / EVALUATION, home / EVALUATION)
            _write_index(home)
        except BaseException:
            shutil.rmtree(place / f".{name}.{os.getpid()}{PARTIAL}", ignore_errors=True)
            raise


def write_record(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write evaluation.json, the last file of an evaluation; returns its content."""
    dated = {"evaluated": _iso(datetime.now()), **record}
    write_text(folder / EVALUATION, json.dumps(dated, indent=2, ensure_ascii=False) + "\n")
    return dated


def find_evaluations(home: Path) -> tuple[list[KeptEvaluation], list[Path]]:
    """The evaluations of a run directory, oldest first, and the files that cannot be read."""
    found, unreadable = [], []
    paths = sorted((home / EVALUATIONS).glob(f"[!.]*/{EVALUATION}"))
    if _is_no_copy(home, paths):
        paths.append(home / EVALUATION)
    for path in paths:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            _ = record["accuracy"] / 1, record["n"] / 1  # numbers that each of them has
            found.append(KeptEvaluation(path.parent, record))
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            unreadable.append(path)
    return sorted(found, key=lambda e: e.evaluated), unreadable


def _is_no_copy(home: Path, kept: Sequence[Path]) -> bool:
    """Whether evaluation.json is from version 0.1.0, which kept only that one."""
    try:
        content = (home / EVALUATION).read_bytes()
        return all(path.read_bytes() != content for path in kept)
    except OSError:
        return False


def _keep_earlier(home: Path) -> None:
    """Copy an evaluation of version 0.1.0 to a folder before the newest replaces it."""
    place = home / EVALUATIONS
    if _is_no_copy(home, sorted(place.glob(f"[!.]*/{EVALUATION}"))):
        partial = place / f".{EARLIER}.{os.getpid()}{PARTIAL}"
        partial.mkdir(exist_ok=True)
        link(home / EVALUATION, partial / EVALUATION)
        _move_to_free_name(partial, place / EARLIER)


def _move_to_free_name(folder: Path, wanted: Path) -> Path:
    """Rename a folder to ``wanted``, ``wanted-2`` ...; two processes never get the same name."""
    number = 1
    while True:
        free = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            return folder.rename(free)
        except OSError:
            if not free.exists():
                raise
        number += 1


def _write_index(home: Path) -> None:
    """Write evaluations.csv from the evaluations on disk."""
    with replace_file(home / EVALUATIONS_INDEX) as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for one in find_evaluations(home)[0]:
            own = {"folder": one.folder.relative_to(home), "evaluated": one.evaluated}
            writer.writerow({**one.record, **one.speed, **own})


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
