"""Evaluations of prompted models for a report: found under folders, read, and laid out.

Their speed is over that of the same model's No CoT on the same task, if the report has both: the
paper's Tables 2 and 3 do the same.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icot.reporting.document import Code, Section, Table
from icot.runs.layout import COMMAND, ENVIRONMENT, EVALUATION, USAGE

SAME = ("predictor", "model", "task", "data", "split")  # of a model's run without chain


@dataclass(frozen=True)
class Prompted:
    """An evaluation of a prompted model.

    Attributes:
        folder: of its files.
        record: the content of evaluation.json.
        experiment: that it was started with.
        command: that made it.
    """

    folder: Path
    record: dict[str, Any]
    experiment: str | None
    command: str

    @property
    def reasons(self) -> bool:
        """Whether the model reasons where the server does not show it: then it is no No CoT."""
        return bool(self.record.get("reasoning_tokens_per_example"))

    @property
    def rate(self) -> float | None:
        """Examples a second, one at a time."""
        found = (self.record.get("speed") or {}).get("examples_per_second")
        return float(found) if found else None


def find_prompted(place: Path) -> tuple[list[Prompted], list[str]]:
    """The evaluations at or under a folder, and messages about those that cannot be read."""
    found, unreadable = [], []
    for path in sorted(place.rglob(USAGE)):
        folder = path.parent
        if not (folder / EVALUATION).is_file():  # what icot.sample has written
            continue
        try:
            record = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
            environment = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
            command = (folder / COMMAND).read_text(encoding="utf-8").strip()
            _ = record["accuracy"] / 1, record["n"] / 1, record["title"], record["with_chain"]
            experiment = (environment.get("experiment") or "").rpartition("/")[2] or None
            found.append(Prompted(folder, record, experiment, command))
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            unreadable.append(f"{folder}: cannot be read as the evaluation of a prompted model.")
    return found, unreadable


def speed_over_no_cot(one: Prompted, others: Sequence[Prompted]) -> float | None:
    """Its speed over the newest of the same model without a chain; None without one."""
    without = [
        other
        for other in others
        if not other.record["with_chain"]
        and not other.reasons
        and other.rate
        and all(other.record.get(key) == one.record.get(key) for key in SAME)
    ]
    if one.rate is None or not without:
        return None
    newest = max(without, key=lambda other: str(other.record.get("evaluated")))
    assert newest.rate is not None
    return one.rate / newest.rate


def paper_cell(experiment: str, found: Sequence[Prompted]) -> str:
    """The newest evaluations of an experiment, of single texts and by vote, beside the paper's
    numbers; "" without one.
    """
    cells = []
    for title in ("", "majority "):
        own = [
            one
            for one in found
            if one.experiment == experiment and ("votes" in one.record) == bool(title)
        ]
        if own:
            newest = max(own, key=lambda one: str(one.record.get("evaluated")))
            speed = speed_over_no_cot(newest, found)
            mark = ", reasons unseen" if newest.reasons else ""
            speed_text = f" at {speed:.2f}×" if speed else ""
            cells.append(f"{title}{newest.record['accuracy']:.3f}{speed_text}{mark}")
    return ", ".join(cells)


def section(found: Sequence[Prompted]) -> Section | None:
    """A row for each evaluation."""
    if not found:
        return None
    rows = []
    for one in found:
        r, speed, rate = one.record, speed_over_no_cot(one, found), one.rate
        cost = (r.get("usage") or {}).get("cost")
        served = ", ".join(name for name in r.get("models_served", ()) if name != r.get("model"))
        rows.append(
            [
                str(r["title"]) + (" (reasons unseen)" if one.reasons else ""),
                served,
                f"{r.get('data')} {r.get('split')}",
                f"{r['n']:,}",
                f"{r['accuracy']:.3f} ({r['accuracy_low']:.3f}-{r['accuracy_high']:.3f})",
                *(f"{r[key]:.3f}" for key in ("accuracy_strict", "broken_format", "truncated")),
                "" if rate is None else f"{rate:.3g}",
                "" if speed is None else f"{speed:.2f}×",
                "" if cost is None else f"{cost:,.2f}",
                str(r.get("evaluated"))[:10],
                Code(one.command),
            ]
        )
    header = (
        *("model and prompt", "named by the server", "questions", "n", "accuracy (95 %)", "strict"),
        *("broken format", "cut", "examples/s", "over No CoT", "cost", "date", "command"),
    )
    text = (
        "Models that icot has not trained, asked with examples in the prompt. Strict: equal "
        "characters, as published. Broken format: not in the format of the examples. Examples/s: "
        "by the median time of requests that were alone and succeeded at once; over No CoT: over "
        "that of the same model and task without a chain. A shared server's speed varies with the "
        "day. A model that reasons where it is not seen is no No CoT."
    )
    table = Table(header, rows, frozenset(range(3, 11)))
    return Section("Prompted models", text, [table])
