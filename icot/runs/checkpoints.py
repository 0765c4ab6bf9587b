"""The checkpoints of a run directory, and reading their weights.

checkpoints/last.ckpt           the newest, resumable; ``final``
checkpoints/step-00001200.ckpt  earlier ones
checkpoints/good.ckpt           the newest with good accuracy, to return to after a collapse
checkpoints/best.ckpt           the best validation with everything removed, or of all in a run that
                                removes the same throughout; ``best``
checkpoints/stage-0003.ckpt     the end of stage 3; ``3``

The header of each file says at which stage its weights were trained.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from icot.errors import RunError
from icot.runs import checkpoint_file
from icot.runs.checkpoint_header import read_header
from icot.runs.exported import read_parts
from icot.runs.kept_run import KeptRun
from icot.runs.layout import (
    BEST_FILE,
    CHECKPOINTS,
    LAST_FILE,
    PARTS,
    STAGE_FILES,
    STEP_FILES,
    stage_file,
    stage_of_file,
)

FINAL, BEST, ALL = "final", "best", "all"
PREFIX = "model."  # of weights' names in the LightningModule


@dataclass(frozen=True)
class Checkpoint:
    """Weights, and the stage at which they were trained.

    Attributes:
        path: the file.
        weights: by their names in the model.
        stage: the stage's number.
        tokens_removed: at that stage.
        everything_removed: whether no chain of the run was longer.
        method: the name of the training method.

    The last four are None if the file does not say.
    """

    path: Path
    weights: dict[str, Tensor]
    stage: int | None
    tokens_removed: int | None
    everything_removed: bool | None = None
    method: str | None = None

    @property
    def name(self) -> str:
        """Its selector: ``final``, ``best`` or the stage's number; else the file's name."""
        names = {LAST_FILE: FINAL, BEST_FILE: BEST, PARTS: FINAL}
        number = stage_of_file(self.path)
        selector = names.get(self.path.name)
        return selector or (self.path.stem if number is None else str(number))


def newest_intact(folder: Path) -> tuple[Path | None, list[Path]]:
    """The newest intact resumable checkpoint of a run directory, and newer damaged ones."""
    checkpoints = folder / CHECKPOINTS
    candidates = [checkpoints / LAST_FILE, *sorted(checkpoints.glob(STEP_FILES), reverse=True)]
    damaged: list[Path] = []
    for path in candidates:
        if path.is_file():
            if checkpoint_file.is_intact(path):
                return path, damaged
            damaged.append(path)
    return None, damaged


def read_checkpoint(path: Path) -> Checkpoint:
    """Read weights without running code from the file.

    Raises:
        RunError: there is no such file, or it is damaged or of another format.
    """
    if not path.is_file():
        raise RunError(f"checkpoint {path}: no such file.")
    content = checkpoint_file.load(path, mmap=True)
    try:
        state = content["state_dict"]
        weights = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
        header = read_header(content)
    except (ValueError, LookupError, TypeError, AttributeError):
        raise RunError(
            f"checkpoint {path}: is not a checkpoint of icot; its content differs."
        ) from None
    if header is None or header.trained_at is None:
        return Checkpoint(path, weights, None, None)
    at = header.trained_at
    return Checkpoint(
        path, weights, at.stage, at.tokens_removed, at.everything_removed, header.method
    )


def is_fully_internalized(run: KeptRun, checkpoint: Checkpoint) -> bool | None:
    """Whether the weights were trained with nothing left of any chain; None where nothing tells.

    Files of version 0.1.0 do not say; their run's summary knows the longest chain.
    """
    longest = run.summary.get("longest_cot")
    if checkpoint.everything_removed is not None or longest is None:
        return checkpoint.everything_removed
    return None if checkpoint.tokens_removed is None else checkpoint.tokens_removed >= longest


def select_stage(run: KeptRun, stage: str) -> list[Checkpoint]:
    """The weights selected by ``final``, ``best``, a stage's number or ``all``, in order.

    A folder of ``icot.export`` has only its final ones.

    Raises:
        RunError: they are not kept; the message lists what is.
    """
    if stage == ALL and not run.is_exported:
        found = [read_checkpoint(path) for path in _stage_files(run)]
        final = run.folder / CHECKPOINTS / LAST_FILE
        if final.is_file():
            last = read_checkpoint(final)
            if last.stage not in {c.stage for c in found}:
                found.append(last)
        if found:
            return found
        raise _not_kept(run, stage)
    return [_select_one(run, FINAL if stage == ALL else stage)]


def _select_one(run: KeptRun, stage: str) -> Checkpoint:
    if run.is_exported and stage == FINAL:
        weights, about = read_parts(run.folder)
        return Checkpoint(run.folder / PARTS, weights, **about["trained_at"])
    folder = run.folder / CHECKPOINTS
    names = {FINAL: LAST_FILE, BEST: BEST_FILE}
    if stage in names:
        path = folder / names[stage]
    elif stage.isdecimal():
        path = folder / stage_file(int(stage))
        if not path.is_file() and (folder / LAST_FILE).is_file():
            last = read_checkpoint(folder / LAST_FILE)
            if last.stage == int(stage):
                return last
    else:
        raise _not_kept(run, stage)
    if not path.is_file():
        raise _not_kept(run, stage)
    return read_checkpoint(path)


def _stage_files(run: KeptRun) -> list[Path]:
    found = (run.folder / CHECKPOINTS).glob(STAGE_FILES)
    return sorted(path for path in found if stage_of_file(path) is not None)


def _not_kept(run: KeptRun, stage: str) -> RunError:
    folder = run.folder / CHECKPOINTS
    there = [n for n, f in ((FINAL, LAST_FILE), (BEST, BEST_FILE)) if (folder / f).is_file()]
    there += [str(stage_of_file(path)) for path in _stage_files(run)]
    kept = f"there are {', '.join(there)}" if there else "there are none"
    if there:
        kept += ", and all for every stage"
    return RunError(
        f"stage={stage}: {run.folder} has no such weights; {kept}. "
        "Train with checkpoints.every_stage=true to keep those of each stage."
    )


def select(
    run_dir: str | None, checkpoint: str | None, stage: str, trusted: Iterable[str] = ()
) -> tuple[KeptRun, list[Checkpoint]]:
    """The run and the weights that a command line selects: a file of weights, or a run's stage.

    Raises:
        RunError: they do not exist or cannot be read.
    """
    if checkpoint is not None:
        path = Path(checkpoint)
        weights = read_checkpoint(path)
        run = KeptRun(run_dir, trusted) if run_dir else KeptRun.of_checkpoint(path, trusted)
        return run, [weights]
    assert run_dir is not None
    run = KeptRun(run_dir, trusted)
    return run, select_stage(run, stage)
