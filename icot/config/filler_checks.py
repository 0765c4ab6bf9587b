"""Keys that conflict with filler tokens (``icot.data.fillers``)."""

from collections.abc import Callable
from typing import Any


def mistakes_of_fillers(value: Callable[[str], Any]) -> list[str]:
    """The mistakes, given the value of each dotted key."""
    filler, mistakes = value("schedule.filler") or "none", []
    if (filler == "fixed") != (value("schedule.filler_count") is not None):
        mistakes.append(
            "schedule.filler_count goes with schedule.filler=fixed: set both, or neither"
        )
    if filler == "none":
        if value("schedule.supervise_filler"):
            mistakes.append("schedule.supervise_filler needs schedule.filler")
        return mistakes
    if filler == "one_for_one" and value("schedule.keep_position_ids") == "from_separator":
        mistakes.append(
            "schedule.filler=one_for_one: the fillers tell how many tokens are removed, and no "
            "position id jumps; set schedule.keep_position_ids=false"
        )
    if filler == "one_for_one" and value("schedule.tokens_removed") == 0:
        mistakes.append("schedule.filler=one_for_one: this schedule removes no token")
    if value("schedule.separators") == 1:
        mistakes.append("schedule.filler stands between separators: set schedule.separators=2")
    if value("model.lora.r") is not None:
        mistakes.append(
            "schedule.filler adds a token, which adapters do not train: set model.lora.r=null"
        )
    return mistakes
