"""The header of a checkpoint.

    checkpoint["icot"] = {
        "format": 1, "method": "icot_si", "resumes": True,
        "step": 7, "epoch": 1, "batches": 7,                       where the run resumes
        "trained_at": {"stage": 4, "tokens_removed": 4, "everything_removed": False},
        "next_stage": {...}, "last_good": {...}, "everything_removed_at_step": None,
    }

Resumable checkpoints and files with only weights both have it. Files of version 0.1.0 have none;
``upgrade`` adds one, so no other code depends on that version.
"""

from dataclasses import asdict, dataclass
from typing import Any

FORMAT = 1
KEY = "icot"


@dataclass(frozen=True)
class StageMark:
    """A stage in a header.

    Attributes:
        stage: its number.
        tokens_removed: from each chain.
        everything_removed: whether no chain was longer; None if the file does not say.
    """

    stage: int
    tokens_removed: int
    everything_removed: bool | None = None


@dataclass(frozen=True)
class Header:
    """The header of a checkpoint.

    Attributes:
        method: the name of the training method.
        resumes: whether a run can be resumed from the file; False if it has only weights.
        step: optimizer steps done.
        epoch: epochs done.
        batches: batches done, over all epochs.
        trained_at: the stage of the newest trained batch.
        next_stage: the stage of the next batch; differs if the newest batch ended its stage.
        last_good: the newest stage that ended with good accuracy; None without a collapse watch.
        everything_removed_at_step: optimizer steps done when everything was removed, None before.
    """

    method: str
    resumes: bool
    step: int
    epoch: int
    batches: int
    trained_at: StageMark | None = None
    next_stage: StageMark | None = None
    last_good: StageMark | None = None
    everything_removed_at_step: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The header as plain values."""
        return {"format": FORMAT, **asdict(self)}


def read_header(content: dict[str, Any]) -> Header | None:
    """The header of a checkpoint, None if it is not one of icot's.

    Args:
        content: of the file, of any version.

    Raises:
        ValueError, LookupError, TypeError: the header is not valid.
    """
    header = upgrade(content).get(KEY)
    if header is None:
        return None
    if header["format"] != FORMAT:
        raise ValueError(f"format {header['format']}")
    removed_at = header["everything_removed_at_step"]
    return Header(
        method=str(header["method"]),
        resumes=bool(header["resumes"]),
        step=int(header["step"]),
        epoch=int(header["epoch"]),
        batches=int(header["batches"]),
        trained_at=_read_mark(header["trained_at"]),
        next_stage=_read_mark(header["next_stage"]),
        last_good=_read_mark(header["last_good"]),
        everything_removed_at_step=None if removed_at is None else int(removed_at),
    )


def _read_mark(mark: dict[str, Any] | None) -> StageMark | None:
    if mark is None:
        return None
    everything = mark["everything_removed"]
    return StageMark(
        int(mark["stage"]),
        int(mark["tokens_removed"]),
        None if everything is None else bool(everything),
    )


# Version 0.1.0 saved callbacks by their class names; these are the present keys.
CALLBACKS_0_1_0 = {
    "Checkpointing": "checkpointing",
    "RemovalSchedule": "stages",
    "RunRecord": "run_record",
    "ValidationAccuracy": "validation_accuracy",
    "StageCheckpoint": "stage_checkpoint",
    "Finish": "finish",
    "CollapseWatch": "collapse_watch",
}
DATA_0_1_0 = "CoTDataModule"


def upgrade(content: dict[str, Any]) -> dict[str, Any]:
    """Convert a checkpoint of any version to the present format.

    Raises:
        LookupError, TypeError: it is not of version 0.1.0 either.
    """
    if KEY in content or DATA_0_1_0 not in content:
        return content
    data = content[DATA_0_1_0]
    callbacks = dict(content.get("callbacks", {}))
    kept = {new: callbacks.pop(old) for old, new in CALLBACKS_0_1_0.items() if old in callbacks}
    schedule = kept.get("stages", {}).get("stage") or data["stage"]
    trained = _newest_trained(schedule, kept.get("run_record", {}).get("rows"))
    position = kept.get("checkpointing", {}).get("saved") or {}
    good = kept.get("collapse_watch", {}).get("good")
    header = Header(
        method="icot_si",
        resumes="checkpointing" in kept,
        step=position.get("step", content["global_step"]),
        epoch=position.get("epoch", content["epoch"]),
        batches=schedule["batches"],
        trained_at=StageMark(trained["index"], trained["tokens_removed"]),
        next_stage=StageMark(schedule["index"], schedule["tokens_removed"]),
        last_good=None if good is None else StageMark(good["index"], good["tokens_removed"]),
        everything_removed_at_step=kept.get("finish", {}).get("begun"),
    )
    upgraded = {**content, KEY: header.as_dict(), DATA_0_1_0: {"data": data["data"]}}
    if "callbacks" not in content:
        return upgraded
    if "stages" in kept:
        kept["stages"] = {"stage": _without_batches(schedule), "trained": _without_batches(trained)}
    if "validation_accuracy" in kept:
        validation = kept["validation_accuracy"]
        stage = validation["stage"]
        kept["validation_accuracy"] = {
            **validation,
            "stage": _without_batches(stage),
            "batches": -1 if stage is None else stage["batches"],
        }
    if "collapse_watch" in kept:
        kept["collapse_watch"] = {**kept["collapse_watch"], "good": _without_batches(good)}
    kept["clock"] = {
        "batches": schedule["batches"],
        "tokens": data.get("tokens", 0),
        "dropped": data["dropped"],
    }
    return {**upgraded, "callbacks": {**callbacks, **kept}}


def _newest_trained(schedule: dict[str, Any], rows: list[dict[str, Any]] | None) -> dict[str, Any]:
    """The stage of the newest trained batch.

    If that batch ended its stage, the schedule is already at the next one; the run's record in the
    same file has the row of the ended stage.
    """
    if schedule["batches_in_stage"] or not rows:
        return schedule
    row = rows[-1]
    return {
        **schedule,
        "index": row["stage"],
        "tokens_removed": row["tokens_removed"],
        "batches_in_stage": row["batches"],
    }


def _without_batches(stage: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if stage is None else {k: v for k, v in stage.items() if k != "batches"}
