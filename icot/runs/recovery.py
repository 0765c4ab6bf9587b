"""Rollbacks of a run to an earlier checkpoint, recorded so that a resumed run knows them.

recoveries.json   one object for each rollback, in order
"""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch.distributed as dist
from lightning.fabric.utilities.rank_zero import rank_zero_only

from icot.errors import RunError
from icot.runs import checkpoint_file
from icot.runs.checkpoint_header import StageMark, read_header
from icot.runs.layout import (
    CHECKPOINTS,
    GOOD_FILE,
    LAST_FILE,
    RECOVERIES,
    STAGE_FILES,
    STEP_FILES,
    stage_file,
)
from icot.runs.position import End, Position, find_position
from icot.schedule import Slowdown
from icot.system.files import link, write_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recovery:
    """One rollback.

    Attributes:
        reason: ``nonfinite``, a gradient that is not finite, after which ``skipped`` batches are
            skipped; ``collapse``, an accuracy that has not recovered, after which the schedule
            continues at half the speed.
        step: optimizer step at which it was detected.
        tokens_removed: at the stage returned to.
        batches: batches trained at the checkpoint returned to.
        skipped: batches of the run to skip, counted from 0.
        message: the explanation for users.
    """

    reason: Literal["nonfinite", "collapse"]
    step: int
    tokens_removed: int
    batches: int
    skipped: tuple[int, ...]
    message: str


def _parse_recovery(
    reason: Any, step: Any, tokens_removed: Any, batches: Any, skipped: Any, message: Any
) -> Recovery:
    """A recovery from a file, with its types checked."""
    numbers = int(step), int(tokens_removed), int(batches)
    return Recovery(reason, *numbers, tuple(int(n) for n in skipped), str(message))


class Recoveries:
    """The rollbacks of one run.

    Args:
        folder: the run directory.

    Attributes:
        done: all rollbacks, in order.
        gone_back: whether this process made one.

    Raises:
        RunError: the file cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RECOVERIES
        self.done: list[Recovery] = []
        self.gone_back = False
        if self.path.is_file():
            try:
                rows = json.loads(self.path.read_text(encoding="utf-8"))
                self.done = [_parse_recovery(**row) for row in rows]
            except (OSError, ValueError, TypeError, KeyError, RecursionError):
                raise RunError(f"{self.path}: cannot be read as a list of rollbacks.") from None

    def add(self, recovery: Recovery) -> None:
        """Record a rollback.

        Raises:
            RunError: the file cannot be written.
        """
        self.done.append(recovery)
        self.gone_back = True
        self._write()

    @rank_zero_only
    def _write(self) -> None:
        rows = [asdict(r) for r in self.done]
        write_text(self.path, json.dumps(rows, indent=2) + "\n")

    def count(self, reason: str) -> int:
        """The number of rollbacks for a reason."""
        return sum(r.reason == reason for r in self.done)

    @property
    def skipped(self) -> frozenset[int]:
        """Batches to skip."""
        return frozenset(n for r in self.done for n in r.skipped)

    @property
    def slowdowns(self) -> tuple[Slowdown, ...]:
        """Where the schedule slows down."""
        return tuple(
            Slowdown(r.batches, r.tokens_removed) for r in self.done if r.reason == "collapse"
        )


class RollbackError(Exception):
    """Training cannot continue from here; an earlier state is on disk.

    Args:
        reason: as in ``Recovery``.
        step: optimizer step at which it was detected.
        batches: batches of the run that may be skipped.
        message: the explanation for users.
    """

    def __init__(
        self,
        reason: Literal["nonfinite", "collapse"],
        step: int,
        batches: tuple[int, ...],
        message: str,
    ) -> None:
        super().__init__(message)
        self.reason, self.step, self.batches, self.message = reason, step, batches, message


def go_back(
    error: RollbackError,
    folder: Path,
    recoveries: Recoveries,
    end: End,
    allowed: int,
    may_skip: bool,
    is_first_process: bool,
) -> Position:
    """Return to a checkpoint if that is allowed, and record it.

    Args:
        error: why training cannot continue.
        folder: the run directory.
        recoveries: the rollbacks so far.
        end: where the run ends.
        allowed: the most rollbacks for one reason.
        may_skip: whether a batch may be skipped.
        is_first_process: of the run; the others change no file.

    Raises:
        RunError: it is not allowed, or there were too many rollbacks.
    """
    if error.reason == "nonfinite" and not may_skip:
        raise RunError(
            f"{error.message} Check these examples; a lower optimizer.lr may help, in a new run. "
            f"resume={folder} on_nonfinite=rollback resumes and skips the batch."
        )
    if recoveries.count(error.reason) >= allowed:
        raise RunError(
            f"{error.message} The run has already gone back {allowed} times; max_rollbacks= allows "
            "more."
        )
    good = (
        _promote_good(folder / CHECKPOINTS, is_first_process)
        if error.reason == "collapse"
        else None
    )
    position = find_position(folder, end, is_first_process)
    if good is not None:
        removed = good.tokens_removed
        remedy = f", {removed} tokens removed, at half the speed"
    else:
        removed = position.tokens_removed
        remedy = f" and skips batch {error.batches[-1]}"
    recoveries.add(
        Recovery(error.reason, error.step, removed, position.batches, error.batches, error.message)
    )
    if is_first_process:
        log.warning("%s The run goes back to step %d%s.", error.message, position.step, remedy)
    return position


def _promote_good(checkpoints: Path, is_first_process: bool) -> StageMark:
    """Make ``good.ckpt`` the newest checkpoint; returns its last good stage."""
    path = checkpoints / GOOD_FILE
    if not checkpoint_file.is_intact(path):
        raise RunError(
            f"{path}: there is no intact checkpoint from before the collapse to go back to."
        )
    content = checkpoint_file.load(path, mmap=True, verify=False)
    header = read_header(content)
    assert header is not None
    assert header.last_good is not None
    good = header.last_good
    _wait_for_all()
    if is_first_process:
        undone = [p for p in checkpoints.glob(STAGE_FILES) if p.name > stage_file(good.stage)]
        for later in (*checkpoints.glob(STEP_FILES), *undone):
            later.unlink()
        link(path, checkpoints / LAST_FILE)
    _wait_for_all()
    return good


def _wait_for_all() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
