"""What a checkpoint says of itself, in one place, for everybody who reads it.

    checkpoint["icot"] = {
        "format": 1, "method": "icot_si", "resumes": True,
        "step": 7, "epoch": 1, "batches": 7,                       where the run goes on
        "trained_at": {"stage": 4, "tokens_removed": 4, "everything_removed": False},
        "next_stage": {...}, "last_good": {...}, "everything_removed_at_step": None,
    }

Both kinds of files have it: those that resume a run, and those with weights alone. Files of
version 0.1.0 have none; ``upgrade`` gives them one, so nobody else knows how those were made.
"""

from dataclasses import asdict, dataclass
from typing import Any

FORMAT = 1
KEY = "icot"


@dataclass(frozen=True)
class StageMark:
    """A stage as a checkpoint names it.

    Attributes:
        stage: its number.
        tokens_removed: from each chain.
        everything_removed: whether no chain was longer; None where the file does not say.
    """

    stage: int
    tokens_removed: int
    everything_removed: bool | None = None


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of itself.

    Attributes:
        method: that the weights were trained by.
        resumes: whether the file holds what a run goes on from, not weights alone.
        step: optimizer steps done.
        epoch: epochs done.
        batches: of the run, done over all epochs.
        trained_at: the stage of the newest trained batch.
        next_stage: that of the next batch, another one where the newest batch has ended its stage.
        last_good: the newest stage that ended with its accuracy back; None without a watch.
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
        """Plain numbers and texts."""
        return {"format": FORMAT, **asdict(self)}


def read_header(content: dict[str, Any]) -> Header | None:
    """What a checkpoint says of itself, None where it is not one of icot's.

    Args:
        content: of the file, of any version.

    Raises:
        ValueError, LookupError, TypeError: it says something that no version does.
    """
    told = upgrade(content).get(KEY)
    if told is None:
        return None
    if told["format"] != FORMAT:
        raise ValueError(f"format {told['format']}")
    begun = told["everything_removed_at_step"]
    return Header(
        method=str(told["method"]),
        resumes=bool(told["resumes"]),
        step=int(told["step"]),
        epoch=int(told["epoch"]),
        batches=int(told["batches"]),
        trained_at=_mark(told["trained_at"]),
        next_stage=_mark(told["next_stage"]),
        last_good=_mark(told["last_good"]),
        everything_removed_at_step=None if begun is None else int(begun),
    )


def _mark(told: dict[str, Any] | None) -> StageMark | None:
    if told is None:
        return None
    everything = told["everything_removed"]
    return StageMark(
        int(told["stage"]),
        int(told["tokens_removed"]),
        None if everything is None else bool(everything),
    )


# Version 0.1.0: callbacks by their class names, and what each of them is called now.
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
    """A checkpoint of any version as the present one would have written it.

    Raises:
        LookupError, TypeError: version 0.1.0 has not written it either.
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

    Where that batch ended its stage, the schedule is at the next one already; the run's record, in
    the same file, has the row of the one that ended.
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
