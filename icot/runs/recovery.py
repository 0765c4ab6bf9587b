"""Going back: what a run has undone of itself, written down so that a resumed run knows it.

recoveries.json   one object for each return to a checkpoint, in order
"""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning.fabric.utilities.rank_zero import rank_zero_only

from icot.config.schema import TrainConfig
from icot.errors import RunError
from icot.runs import checkpoint_file
from icot.runs.layout import (
    CHECKPOINTS,
    GOOD_FILE,
    LAST_FILE,
    RECOVERIES,
    STAGE_FILES,
    STEP_FILES,
    stage_file,
)
from icot.runs.position import Position, where_to_go_on
from icot.schedule import Slowdown, Stage
from icot.system.files import link, write_text

if TYPE_CHECKING:
    from lightning import Trainer

    from icot.methods.icot_si.collapse_watch import CollapseError
    from icot.training.causal_lm import NonFiniteError
    from icot.training.datamodule import CoTDataModule

log = logging.getLogger(__name__)

NAMED = 8  # examples that a message names


@dataclass(frozen=True)
class Recovery:
    """One return.

    Attributes:
        reason: ``nonfinite``, a gradient that is not a number, after which ``skipped`` batches are
            left out; ``collapse``, an accuracy that has not come back, after which the schedule
            goes on at half the speed.
        step: optimizer step at which it was seen.
        tokens_removed: of the stage returned to.
        batches: trained where the run goes on.
        skipped: batches of the run that are left out, counted from 0.
        message: what was seen, for people.
    """

    reason: Literal["nonfinite", "collapse"]
    step: int
    tokens_removed: int
    batches: int
    skipped: tuple[int, ...]
    message: str


def _restored(
    reason: Any, step: Any, tokens_removed: Any, batches: Any, skipped: Any, message: Any
) -> Recovery:
    """A recovery of the right types, whatever a file says."""
    numbers = int(step), int(tokens_removed), int(batches)
    return Recovery(reason, *numbers, tuple(int(n) for n in skipped), str(message))


class Recoveries:
    """The returns of one run.

    Args:
        folder: the run directory.

    Attributes:
        done: all of them, in order.
        gone_back: whether one was made in this process.

    Raises:
        RunError: its file is not one.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RECOVERIES
        self.done: list[Recovery] = []
        self.gone_back = False
        if self.path.is_file():
            try:
                rows = json.loads(self.path.read_text(encoding="utf-8"))
                self.done = [_restored(**row) for row in rows]
            except (OSError, ValueError, TypeError, KeyError, RecursionError):
                raise RunError(f"{self.path}: cannot be read as a run's returns.") from None

    def add(self, recovery: Recovery) -> None:
        """Write one more down.

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
        """How often a run has returned for a reason."""
        return sum(r.reason == reason for r in self.done)

    @property
    def skipped(self) -> frozenset[int]:
        """Batches that are left out."""
        return frozenset(n for r in self.done for n in r.skipped)

    @property
    def slowdowns(self) -> tuple[Slowdown, ...]:
        """Where the schedule slows down."""
        return tuple(
            Slowdown(r.batches, r.tokens_removed) for r in self.done if r.reason == "collapse"
        )


class RollbackError(Exception):
    """Training cannot go on from where it came to; the state before is on disk.

    Args:
        reason: as in ``Recovery``.
        step: optimizer step at which it was seen.
        batches: of the run that an answer may leave out.
        message: what was seen, for people.
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


def after_nonfinite(
    error: "NonFiniteError", trainer: "Trainer", data: "CoTDataModule"
) -> RollbackError:
    """What to say and what may be left out after a gradient that is not a number."""
    stage = data.stage
    in_epoch = trainer.fit_loop.epoch_loop.batch_progress.current.ready - 1
    begun = in_epoch % trainer.accumulate_grad_batches
    batches = tuple(range(stage.batches - begun, stage.batches + 1))
    which = "whose loss is not finite are" if error.by_loss else "it comes from are"
    named = [f"{n} ({data.question(n)!r})" for n in error.examples[:NAMED]]
    more = len(error.examples) - len(named)
    message = (
        f"step {trainer.global_step}, stage {stage.index} ({stage.tokens_removed} tokens removed), "
        f"batch {stage.batches} of the run: {error}. The training examples {which} "
        f"{', '.join(named)}{f' and {more} more' if more else ''}. The weights have not been "
        "touched."
    )
    return RollbackError("nonfinite", trainer.global_step, batches, message)


def after_collapse(error: "CollapseError", trainer: "Trainer") -> RollbackError:
    """What to say after a collapse."""
    return RollbackError(
        "collapse", trainer.global_step, (), f"step {trainer.global_step}: {error}."
    )


def go_back(
    wish: RollbackError, cfg: TrainConfig, folder: Path, recoveries: Recoveries, first: bool
) -> Position:
    """Return to a checkpoint as the configuration wants it, and write that down.

    Raises:
        RunError: it does not want it, or not so often.
    """
    allowed = cfg.max_rollbacks
    if wish.reason == "nonfinite" and cfg.on_nonfinite != "rollback":
        raise RunError(
            f"{wish.message} Look at these examples; a lower optimizer.lr may help, in a new run. "
            f"resume={folder} on_nonfinite=rollback goes on and leaves the batch out."
        )
    if recoveries.count(wish.reason) >= allowed:
        raise RunError(
            f"{wish.message} The run has gone back {allowed} times already; max_rollbacks= allows "
            "more."
        )
    good = _promote_good(folder / CHECKPOINTS, first) if wish.reason == "collapse" else None
    position = where_to_go_on(folder, cfg, first)
    if good is not None:
        removed = good.tokens_removed
        remedy = f", {removed} tokens removed, at half the speed"
    else:
        removed = position.tokens_removed
        remedy = f" and leaves out batch {wish.batches[-1]}"
    recoveries.add(
        Recovery(wish.reason, wish.step, removed, position.batches, wish.batches, wish.message)
    )
    if first:
        log.warning("%s The run goes back to step %d%s.", wish.message, position.step, remedy)
    return position


def _promote_good(checkpoints: Path, first: bool) -> Stage:
    """Make ``good.ckpt`` the newest checkpoint; returns the stage that had ended well there."""
    path = checkpoints / GOOD_FILE
    if not checkpoint_file.is_intact(path):
        raise RunError(
            f"{path}: there is no intact checkpoint from before the collapse to go back to."
        )
    content = checkpoint_file.load(path, mmap=True, verify=False)
    stage = Stage.from_state_dict(content["callbacks"]["CollapseWatch"]["good"])
    _wait_for_all()
    if first:
        undone = [p for p in checkpoints.glob(STAGE_FILES) if p.name > stage_file(stage.index)]
        for later in (*checkpoints.glob(STEP_FILES), *undone):
            later.unlink()
        link(path, checkpoints / LAST_FILE)
    _wait_for_all()
    return stage


def _wait_for_all() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()
