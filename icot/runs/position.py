"""Where a run goes on: at its newest intact checkpoint, or at the beginning."""

import logging
from dataclasses import dataclass
from pathlib import Path

from icot.config.schema import TrainConfig
from icot.errors import RunError
from icot.runs import checkpoint_file
from icot.runs.checkpoints import newest_intact
from icot.runs.directory import read_summary
from icot.runs.layout import CHECKPOINTS, DAMAGED
from icot.system.files import remove_partial_files

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Position:
    """Where a run goes on.

    Attributes:
        checkpoint: the file, None for the beginning.
        step: optimizer steps done.
        epoch: epochs done.
        batches: batches done, over all epochs.
        tokens_removed: at the next batch.
        removed_all: optimizer steps done when everything was removed, None before.
    """

    checkpoint: Path | None = None
    step: int = 0
    epoch: int = 0
    batches: int = 0
    tokens_removed: int = 0
    removed_all: int | None = None


def where_to_go_on(folder: Path, cfg: TrainConfig, first: bool) -> Position:
    """The newest intact checkpoint of a run directory; damaged ones are named and set aside.

    Raises:
        RunError: the run is longer than the configuration allows.
    """
    if first:
        for place in (folder, folder / CHECKPOINTS):
            remove_partial_files(place)
    path, damaged = newest_intact(folder)
    if first:
        for bad in damaged:
            instead = f"{path} is used instead" if path else "there is no other: it begins anew"
            log.warning("%s is damaged and has been set aside; %s.", bad, instead)
            bad.replace(bad.with_name(bad.name + DAMAGED))
    if path is None:
        return Position()
    content = checkpoint_file.load(path, mmap=True, verify=False)
    try:
        saved = content["callbacks"]["Checkpointing"]["saved"]
        stage = content["callbacks"]["RemovalSchedule"]["stage"]
        numbers = [saved["step"], saved["epoch"], stage["batches"], stage["tokens_removed"]]
        finish = content["callbacks"].get("Finish", {}).get("begun")
        removed_all = None if finish is None else int(finish)
        step, epoch, batches, tokens_removed = map(int, numbers)
        position = Position(path, step, epoch, batches, tokens_removed, removed_all)
    except (LookupError, TypeError, ValueError):
        raise RunError(f"checkpoint {path}: holds weights, but not what resumes a run.") from None
    if 0 < cfg.trainer.max_steps < position.step:
        raise RunError(
            f"trainer.max_steps={cfg.trainer.max_steps}: {folder} has done {position.step} steps "
            "already; a longer run is allowed, a shorter one is not."
        )
    if 0 < cfg.trainer.max_epochs <= position.epoch:
        raise RunError(
            f"trainer.max_epochs={cfg.trainer.max_epochs}: {folder} has begun epoch "
            f"{position.epoch + 1} already; a longer run is allowed, a shorter one is not."
        )
    return position


def is_complete(folder: Path, cfg: TrainConfig, position: Position) -> bool:
    """Whether a run has come to the end that its configuration sets."""
    summary = read_summary(folder)
    steps, epochs = summary.get("steps"), summary.get("epochs")
    if not isinstance(steps, int) or not isinstance(epochs, int):
        return False
    if steps != position.step:
        return False
    t = cfg.trainer
    ends = [t.max_steps] if t.max_steps > 0 else []
    if t.finish_steps is not None and position.removed_all is not None:
        ends.append(position.removed_all + t.finish_steps)
    return min(ends, default=steps + 1) <= steps or 0 < t.max_epochs <= epochs
