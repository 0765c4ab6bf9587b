"""The figures of a report, in any theme: lines, the seeds of each series, Δ × λ."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from statistics import mean
from textwrap import fill
from typing import Any, Literal
from zlib import crc32

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from icot.reporting.document import Picture, Table
from icot.reporting.runs import Run
from icot.reporting.series import Series
from icot.reporting.statistics import mean_interval, seeds_interval
from icot.reporting.theme import DASHES, MARKERS, Theme, legend, new_axes

WIDTH = 4.6  # inches, about what a phone shows
NUMBERS = "The numbers of this picture"
REMOVED = "chain tokens removed"


@dataclass(frozen=True)
class Point:
    """A point of a line, the interval of its y, and a note that is written beside it."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    note: str = ""

    @classmethod
    def of(
        cls, x: float, record: Mapping[str, Any], key: str = "accuracy", note: str = ""
    ) -> "Point":
        """The accuracy that a record has under a key, with the ends of its interval, if known."""
        return cls(x, record[key], record.get(f"{key}_low"), record.get(f"{key}_high"), note)


@dataclass(frozen=True)
class Line:
    """Points of one colour and marker.

    Attributes:
        label: names it.
        points: from left to right. A level has one, whose x does not count.
        kind: a line through its points, a dotted line across at the height of its point, or pale
            points of the line before it.
    """

    label: str
    points: Sequence[Point]
    kind: Literal["line", "level", "pale"] = "line"


@dataclass(frozen=True)
class Lines:
    """Lines in one figure; accuracies unless ``log``."""

    lines: Sequence[Line]
    x_label: str = REMOVED
    y_label: str = "validation exact match"
    log: bool = False

    def picture(self, name: str, what: str, caption: str) -> Picture:
        """The picture of them; ``what`` begins its alternative text."""
        rows = [[line.label, x, y] for line, _, x, y in self._told()]
        points = [
            (f"{line.label}: {self.y_label} {y}" + (f", {self.x_label} {x}" if x else ""), p.x, p.y)
            for line, p, x, y in self._told()
            if line.kind != "level"
        ]
        table = Table(("line", self.x_label, self.y_label), rows, frozenset({1, 2}), NUMBERS)
        ends = {line.label: y for line, _, _, y in self._told()}
        alternative = f"{what} At the right: " + "; ".join(f"{k}: {v}" for k, v in ends.items())
        return Picture(name, f"{alternative}.", caption, table, points, self.draw)

    def _told(self) -> Iterator[tuple[Line, Point, str, str]]:
        """Each point with its line, and the texts of its x and y."""
        for line in self.lines:
            for p in line.points:
                x = "" if line.kind == "level" else f"{p.x:.3g}" + (f", {p.note}" if p.note else "")
                y = f"{p.y:.3g}" if self.log else f"{p.y:.3f}"
                if p.low is not None and p.high is not None:
                    y += f" ({p.low:.3f}-{p.high:.3f})"
                yield line, p, x, y

    def draw(self, theme: Theme) -> Figure:
        """The figure, its legend below the axes."""
        shown = [line.label for line in self.lines if line.kind != "pale"]
        columns = 2 if max(map(len, shown), default=0) < 28 else 1
        height = 2.7 + (0.2 * -(-len(shown) // columns) if len(shown) > 1 else 0)
        figure, axes = new_axes(theme, WIDTH, height)
        index = -1
        for line in self.lines:
            index += line.kind != "pale"
            color = theme.series[index % len(theme.series)]
            marker, dash = MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)]
            x, y = [p.x for p in line.points], [p.y for p in line.points]
            if line.kind == "level":
                axes.axhline(y[0], linestyle=":", linewidth=1.8, color=color, label=line.label)
                continue
            if line.kind == "pale":
                axes.plot(x, y, marker, color=color, alpha=0.35, markersize=5)
                continue
            low = [p.y if p.low is None else p.low for p in line.points]
            high = [p.y if p.high is None else p.high for p in line.points]
            if low != y or high != y:
                axes.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)
            axes.plot(
                x,
                y,
                color=color,
                marker=marker,
                linestyle=dash,
                markersize=5,
                linewidth=1.6,
                label=line.label,
            )
            for p in line.points:
                axes.annotate(
                    p.note,
                    (p.x, p.y),
                    xytext=(5, 4),
                    textcoords="offset points",
                    fontsize=8,
                    color=theme.foreground,
                )
        if self.log:
            axes.set_yscale("log")
        else:
            axes.set_ylim(-0.02, 1.03)
            axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
        if self.x_label == REMOVED:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(self.x_label)
        axes.set_ylabel(self.y_label)
        if len(shown) > 1:
            legend(axes, theme, columns)
        return figure


def points_of(run: Run) -> list[Point]:
    """A run's accuracy by tokens removed."""
    return [Point.of(x, row, "val_accuracy") for x, row in sorted(run.curve.items())]


def file_name(*words: str) -> str:
    """A name for a picture's files, not too long for a file system."""
    name = "_".join(re.findall(r"\w+", " ".join(words).replace("×", "x"))).lower()
    return name if len(name) <= 90 else f"{name[:80]}_{crc32(name.encode()):08x}"


def seeds(series: Sequence[Series]) -> Picture:
    """Final accuracy of every seed, with the mean and 95 % interval of each series."""
    points, rows = [], []
    for i, one in enumerate(series):
        for run, accuracy in zip(one.measured, one.accuracies, strict=True):
            value = f"{accuracy:.3f}" + (f", {run.remainder}" if run.remainder else "")
            points.append((f"{one.label}, seed {run.cfg.seed}: {value}", accuracy, i))
            rows.append([one.label, str(run.cfg.seed), value])
        middle = seeds_interval(one.accuracies)
        points.append((f"{one.label}, mean: {middle}", mean(one.accuracies), i))
        rows.append([one.label, "mean", middle])
    means = "; ".join(
        f"{one.label} {mean(one.accuracies):.3f} of {len(one.accuracies)} seeds" for one in series
    )
    return Picture(
        "seeds",
        f"Final exact match by series, means: {means}.",
        "A dot is a run, hollow if part of its chain is left; the bar across is the mean, with its "
        "95 % interval.",
        Table(("series", "seed", "exact match"), rows, frozenset({1, 2}), NUMBERS),
        points,
        partial(_draw_seeds, series),
    )


def _draw_seeds(series: Sequence[Series], theme: Theme) -> Figure:
    figure, axes = new_axes(theme, WIDTH, height=0.9 + 0.5 * len(series))
    for i, one in enumerate(series):
        color = theme.series[i % len(theme.series)]
        for run, accuracy in zip(one.measured, one.accuracies, strict=True):
            dot: dict[str, Any] = {"fillstyle": "none" if run.remainder else "full"}
            axes.plot([accuracy], [i], "o", color=color, alpha=0.5, markersize=5, **dot)
        middle, low, high = mean_interval(one.accuracies)
        if low is not None and high is not None:
            axes.errorbar(
                [middle], [i], xerr=[[middle - low], [high - middle]], color=color, capsize=4
            )
        axes.plot([middle], [i], "|", color=color, markersize=14, markeredgewidth=2)
    axes.set_yticks(range(len(series)), [fill(one.label, 28) for one in series], fontsize=8)
    axes.set_ylim(len(series) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("final exact match")
    return figure


def heat_map(
    name: str,
    what: str,
    caption: str,
    grid: Mapping[tuple[float, float], float],
    marks: Mapping[tuple[float, float], str],
) -> Picture:
    """Final accuracy by Δ and λ.

    Args:
        name, what, caption: of the picture.
        grid: the accuracy by (Δ, λ).
        marks: a remark below the accuracy, such as how much of the chain was removed.
    """
    cells = {at: f"{v:.3f}" + (f"\n{marks[at]}" if marks.get(at) else "") for at, v in grid.items()}
    deltas, lambdas = (sorted({at[i] for at in grid}) for i in (0, 1))
    names = ["no smoothing" if math.isinf(x) else f"{x:g}" for x in lambdas]
    texts = [[cells.get((d, lam), "missing") for lam in lambdas] for d in deltas]
    rows = [
        [f"{d:g}", *(text.replace("\n", ", ") for text in row)]
        for d, row in zip(deltas, texts, strict=True)
    ]
    points = [
        (f"Δ {d:g}, λ {names[j]}: {rows[i][j + 1]}", float(j), float(i))
        for (i, d), j in product(enumerate(deltas), range(len(lambdas)))
    ]

    def draw(theme: Theme) -> Figure:
        size = 1.9 + 1.1 * len(lambdas), 1.5 + 0.6 * len(deltas)
        figure, axes = new_axes(theme, *size)
        axes.grid(visible=False)
        values = [[grid.get((d, lam), math.nan) for lam in lambdas] for d in deltas]
        low, high = min(grid.values()), max(grid.values())
        image = axes.imshow(values, cmap=theme.heat, vmin=low, vmax=high, aspect="auto")
        for i, j in product(range(len(deltas)), range(len(lambdas))):
            value = values[i][j]
            color = "#000000" if value > (low + high) / 2 else "#ffffff"
            color = theme.foreground if math.isnan(value) else color
            axes.text(j, i, texts[i][j], ha="center", va="center", color=color, fontsize=8)
        axes.set_xticks(range(len(lambdas)), names)
        axes.set_yticks(range(len(deltas)), [f"{x:g}" for x in deltas])
        axes.set_xlabel("smoothing λ")
        axes.set_ylabel("tokens removed per epoch, Δ")
        bar = figure.colorbar(image, ax=axes, label="final exact match")
        bar.ax.tick_params(colors=theme.foreground)
        bar.ax.yaxis.label.set_color(theme.foreground)
        return figure

    table = Table(("Δ", *(f"λ {x}" for x in names)), rows, frozenset(range(4)), NUMBERS)
    listed = "; ".join(text for text, _, _ in points)
    return Picture(name, f"{what} {listed}.", caption, table, points, draw)
