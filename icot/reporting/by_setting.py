"""Accuracy against a setting that is a number, for runs that differ in nothing else but their seed.

accuracy of students by N = 1, 5, 10, 30 samples of each question (arXiv 2306.14050, Figure 2)
"""

from collections.abc import Sequence
from statistics import mean

from icot.reporting.charts import Line, Lines, Point, file_name
from icot.reporting.document import Section
from icot.reporting.runs import Run
from icot.reporting.series import Series, gather_series

AXES = {"task.samples_per_question": "samples of each question, N"}
CAPTION = (
    "Mean over seeds at the end of training, with a band from the lowest to the highest seed, or "
    "for one seed its 95 % interval; dotted: runs with one value of the setting."
)


def by_setting(runs: Sequence[Run]) -> list[Section]:
    """A section for each such setting and task; none where no series has two values of it."""
    sections = []
    for key, label in AXES.items():
        of_task: dict[str, list[Run]] = {}
        for run in runs:
            if key in run.settings and run.accuracy is not None:
                of_task.setdefault(run.task, []).append(run)
        for task, alike in of_task.items():
            lines = [_line(one, key) for one in gather_series(alike, without=key)]
            if all(line.kind == "level" for line in lines):
                continue
            picture = Lines(lines, label, "exact match").picture(
                file_name("accuracy_by", key.rpartition(".")[2], task),
                f"Accuracy by {label}; {task}.",
                CAPTION,
            )
            sections.append(Section(f"Accuracy against {label}: {task}", pictures=[picture]))
    return sections


def _line(one: Series, key: str) -> Line:
    """A series' accuracy at each value, or its level if there are not two that are numbers."""
    values = {run.settings[key] for run in one.runs}
    at = {
        int(value): Series([run for run in one.runs if run.settings[key] == value])
        for value in values
        if value.isdecimal()
    }
    if len(at) < 2:
        return Line(one.name, [Point(0, mean(one.accuracies))], "level")
    return Line(one.name, [_point(x, at[x]) for x in sorted(at)])


def _point(x: int, one: Series) -> Point:
    if len(one.measured) == 1:
        return Point.of(x, one.measured[0].summary)
    return Point(x, mean(one.accuracies), min(one.accuracies), max(one.accuracies))
