"""The folders of evaluations: each has its own, so that none is overwritten.

outputs/RUN/
    evaluations/final_valid/       evaluation.json, predictions.jsonl, figures
    evaluations/final_valid-2/     the same weights and examples, evaluated again
    evaluations/all_test/          with tradeoff.csv and the predictions of each stage
    evaluations.csv                a row for each of them
    evaluation.json                a copy of the newest

A scored file of predictions has the same beside it. A folder given by ``out=`` holds one
evaluation, whose files are directly in it.

With several stages, evaluation.json is written after each; it says ``unfinished`` until the last.
"""

import csv
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from icot.errors import RunError
from icot.runs.layout import EVALUATION, EVALUATIONS, EVALUATIONS_INDEX
from icot.system.files import (
    PARTIAL,
    explain_refusal,
    link,
    remove_partial_files,
    replace_file,
    write_text,
)
from icot.system.locks import lock_file
from icot.system.output import lock_output

log = logging.getLogger(__name__)

COLUMNS = (
    "folder", "evaluated", "name", "stage", "tokens_removed", "fully_internalized", "data", "split",
    "n", "accuracy", "accuracy_low", "accuracy_high", "speed_over_no_cot",
)  # fmt: skip
UNFINISHED = "unfinished"  # folder in out= for what a killed evaluation had measured
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


class Place:
    """Where an evaluation is kept.

    Attributes:
        folder: of its files; with ``out=`` that one, else a new one from the first record on.
    """

    def __init__(self, home: Path, name: str, out: Path | None) -> None:
        self._home, self._name, self._own = home, name, out is None
        self.folder = home / EVALUATIONS / name if out is None else out
        self._begun = False

    def keep(self, record: Mapping[str, Any], unfinished: str = "") -> dict[str, Any]:
        """Write evaluation.json, which stands from then on, whatever happens to the process.

        Args:
            record: the content.
            unfinished: what there is so far, if more is to come. The next call replaces the file.

        Returns:
            The content of the file.

        Raises:
            RunError: it cannot be written.
        """
        more = {"unfinished": unfinished} if unfinished else {}
        dated = {"evaluated": _iso(datetime.now()), **more, **record}
        text = json.dumps(dated, indent=2, ensure_ascii=False) + "\n"
        if not self._own:
            write_text(self.folder / EVALUATION, text)
            return dated
        with explain_refusal(self._home / EVALUATIONS), _lock_evaluations(self._home):
            if self._begun:
                write_text(self.folder / EVALUATION, text)
            else:
                self.folder = _new_folder(self._home, self._name, text)
                self._begun = True
            if not unfinished:
                link(self.folder / EVALUATION, self._home / EVALUATION)
            _write_index(self._home)
        return dated


def slug(text: str) -> str:
    """A text as a part of a file's name."""
    return re.sub(r"[^\w-]+", "-", text).strip("-")


@contextmanager
def keep_evaluation(
    home: Path, out: str | None, files: Sequence[str], *named_by: str
) -> Iterator[Place]:
    """A place for an evaluation, checked before any work.

    Args:
        home: the run directory, or the folder of a scored file.
        out: the folder given by the user, for one process at a time; None for a new one in
            ``home``.
        files: the names, or patterns of names, of the files to write.
        named_by: what is evaluated; the parts of the new folder's name.

    Raises:
        RunError: the folder is not writable, another process writes there, or ``out`` contains such
            a file. Those of an evaluation that was killed are set aside.
    """
    name = slug("_".join(named_by)) or "evaluation"
    if out is None:
        if not os.access(home, os.W_OK):
            raise RunError(f"{home} cannot be written into; set out= to another folder.")
        yield Place(home, name, None)
        return
    folder = Path(out)
    with lock_output(folder):
        with explain_refusal(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _set_aside_unfinished(folder, files)
        there = [path.name for name in files for path in folder.glob(name)]
        if there:
            raise RunError(
                f"out={out} holds {there[0]} already, which is not overwritten. Choose another "
                "folder, or leave out= away: each evaluation then gets its own folder in "
                f"{home / EVALUATIONS}."
            )
        yield Place(home, name, folder)


def _set_aside_unfinished(folder: Path, files: Sequence[str]) -> None:
    """Move the files of an evaluation that was killed into a folder of their own."""
    remove_partial_files(folder)
    try:
        record = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
        unfinished = record["unfinished"]
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return
    aside = next(path for path in _names(folder / UNFINISHED) if not path.exists())
    aside.mkdir()
    paths = [path for name in files for path in folder.glob(name) if path.name != EVALUATION]
    for path in (*paths, folder / EVALUATION):  # the file that says so is the last
        path.replace(aside / path.name)
    log.warning("An evaluation in %s did not end (%s); it is in %s.", folder, unfinished, aside)


def _new_folder(home: Path, name: str, text: str) -> Path:
    """A folder with evaluation.json, of a name that no evaluation has; the caller has the lock."""
    place = home / EVALUATIONS
    if _is_no_copy(home, sorted(place.glob(f"[!.]*/{EVALUATION}"))):  # of version 0.1.0
        earlier = _partial(place, EARLIER)
        link(home / EVALUATION, earlier / EVALUATION)
        _move_to_free_name(earlier, place / EARLIER)
    partial = _partial(place, name)
    write_text(partial / EVALUATION, text)
    return _move_to_free_name(partial, place / name)


@contextmanager
def _lock_evaluations(home: Path) -> Iterator[None]:
    """Let one process at a time change a run's evaluations; removes what killed ones have left."""
    place = home / EVALUATIONS
    with lock_file(place / ".lock", keep=False) as held:
        if held:
            for left in place.glob(f".*{PARTIAL}"):
                shutil.rmtree(left, ignore_errors=True)
            for name in (EVALUATION, EVALUATIONS_INDEX):
                for left in home.glob(f".{name}.*{PARTIAL}"):
                    left.unlink(missing_ok=True)
        yield


def _partial(place: Path, name: str) -> Path:
    """A hidden folder to write into."""
    partial = place / f".{name}.{os.getpid()}{PARTIAL}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    return partial


def find_evaluations(home: Path) -> tuple[list[KeptEvaluation], list[Path]]:
    """The evaluations of a run directory, oldest first, and the files that cannot be read."""
    paths = sorted((home / EVALUATIONS).glob(f"[!.]*/{EVALUATION}"))
    if _is_no_copy(home, paths):
        paths.append(home / EVALUATION)
    return read_evaluations(paths)


def read_evaluations(paths: Iterable[Path]) -> tuple[list[KeptEvaluation], list[Path]]:
    """Evaluations, oldest first, and the files that cannot be read."""
    found, unreadable = [], []
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


def _move_to_free_name(folder: Path, wanted: Path) -> Path:
    """Rename a folder to ``wanted``, ``wanted-2`` ...; two processes never get the same name."""
    for free in _names(wanted):
        try:
            return folder.rename(free)
        except OSError:
            if not free.exists():
                raise
    raise AssertionError("there is always another name")


def _names(wanted: Path) -> Iterator[Path]:
    """``wanted``, ``wanted-2``, ``wanted-3`` ..."""
    yield wanted
    for number in count(2):
        yield wanted.with_name(f"{wanted.name}-{number}")


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
