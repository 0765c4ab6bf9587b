"""The position where a run resumes: its newest intact checkpoint, and whether it is complete."""

import logging
from dataclasses import dataclass
from pathlib import Path

from icot.errors import RunError
from icot.runs import checkpoint_file
from icot.runs.checkpoint_header import read_header
from icot.runs.checkpoints import newest_intact
from icot.runs.directory import read_summary
from icot.runs.layout import CHECKPOINTS, DAMAGED
from icot.system.files import remove_partial_files

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Position:
    """Where a run resumes.

    Attributes:
        checkpoint: the file, None at the start.
        step: optimizer steps done.
        epoch: epochs done.
        batches: batches done, over all epochs.
        tokens_removed: at the next batch.
        everything_removed_at_step: steps done when everything was removed, None before.
    """

    checkpoint: Path | None = None
    step: int = 0
    epoch: int = 0
    batches: int = 0
    tokens_removed: int = 0
    everything_removed_at_step: int | None = None


@dataclass(frozen=True)
class End:
    """Where a run ends: the first of these limits.

    Attributes:
        max_steps: optimizer steps, -1 for no limit.
        max_epochs: epochs, -1 for no limit.
        finish_steps: steps after everything was removed, None for no limit.
    """

    max_steps: int = -1
    max_epochs: int = -1
    finish_steps: int | None = None


def find_position(folder: Path, end: End, is_first_process: bool) -> Position:
    """The newest intact checkpoint of a run directory; reports and renames damaged ones.

    Args:
        folder: the run directory.
        end: where the run ends.
        is_first_process: of the run; the others change no file.

    Raises:
        RunError: the run is already longer than ``end`` allows, or the file cannot be read.
    """
    if is_first_process:
        for place in (folder, folder / CHECKPOINTS):
            remove_partial_files(place)
    path, damaged = newest_intact(folder)
    if is_first_process:
        for bad in damaged:
            instead = (
                f"using {path} instead" if path else "there is no other: starting from scratch"
            )
            log.warning("%s is damaged and has been renamed; %s.", bad, instead)
            bad.replace(bad.with_name(bad.name + DAMAGED))
    if path is None:
        return Position()
    content = checkpoint_file.load(path, mmap=True, verify=False)
    try:
        header = read_header(content)
    except (LookupError, TypeError, ValueError, AttributeError):
        header = None
    if header is None or not header.resumes:
        raise RunError(f"checkpoint {path}: has only weights; a run cannot be resumed from it.")
    if 0 < end.max_steps < header.step:
        raise RunError(
            f"trainer.max_steps={end.max_steps}: {folder} has already done {header.step} steps; "
            "a longer run is allowed, a shorter one is not."
        )
    if 0 < end.max_epochs <= header.epoch:
        raise RunError(
            f"trainer.max_epochs={end.max_epochs}: {folder} has already begun epoch "
            f"{header.epoch + 1}; a longer run is allowed, a shorter one is not."
        )
    return Position(
        path,
        header.step,
        header.epoch,
        header.batches,
        0 if header.next_stage is None else header.next_stage.tokens_removed,
        header.everything_removed_at_step,
    )


def is_complete(folder: Path, end: End, position: Position) -> bool:
    """Whether a run is complete."""
    summary = read_summary(folder)
    steps, epochs = summary.get("steps"), summary.get("epochs")
    if not isinstance(steps, int) or not isinstance(epochs, int):
        return False
    if steps != position.step:
        return False
    ends = [end.max_steps] if end.max_steps > 0 else []
    if end.finish_steps is not None and position.everything_removed_at_step is not None:
        ends.append(position.everything_removed_at_step + end.finish_steps)
    return min(ends, default=steps + 1) <= steps or 0 < end.max_epochs <= epochs
