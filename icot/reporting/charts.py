"""The figures of a report: several runs in one figure, in either theme."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from statistics import mean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from icot.removal import offset_probabilities
from icot.reporting.runs import Run
from icot.reporting.series import Series
from icot.reporting.statistics import mean_interval
from icot.reporting.theme import DASHES, MARKERS, Theme, legend, new_axes, new_figure, style_axes

SEED_COLUMNS = 3  # panels in a row


def accuracy_curves(series: Sequence[Series], theme: Theme) -> Figure:
    """Accuracy at the end of each stage against tokens removed (Figure 3).

    A line is the mean over seeds, with a band from the lowest to the highest seed. A baseline,
    whose chain never changes, is a horizontal line.
    """
    figure, axes = new_axes(theme, width=9, height=4.4)
    for i, one in enumerate(series):
        style: dict[str, Any] = {
            "color": theme.series[i % len(theme.series)],
            "label": _label(one),
        }
        if one.runs[0].is_baseline:
            axes.axhline(mean(one.accuracies), linestyle=":", linewidth=1.8, **style)
            continue
        points = one.curve
        x = sorted(points)
        axes.fill_between(
            x,
            [min(points[n]) for n in x],
            [max(points[n]) for n in x],
            color=style["color"],
            alpha=0.15,
            linewidth=0,
        )
        axes.plot(
            x,
            [mean(points[n]) for n in x],
            marker=MARKERS[i % len(MARKERS)],
            linestyle=DASHES[i % len(DASHES)],
            markersize=5,
            linewidth=1.6,
            **style,
        )
    _accuracy_axes(axes)
    legend(axes, theme, outside=True)
    return figure


def seed_curves(series: Sequence[Series], theme: Theme) -> Figure:
    """The same, with a panel for each series and a line for each of its seeds (Figure 4)."""
    rows = -(-len(series) // SEED_COLUMNS)
    figure = new_figure(theme, width=9, height=2.9 * rows)
    for index, one in enumerate(series):
        axes = figure.add_subplot(rows, SEED_COLUMNS, index + 1)
        for i, run in enumerate(one.seeds):
            axes.plot(
                list(run.curve),
                list(run.curve.values()),
                color=theme.series[i % len(theme.series)],
                marker=MARKERS[i % len(MARKERS)],
                linestyle=DASHES[i % len(DASHES)],
                markersize=4,
                linewidth=1.3,
                label=f"seed {run.cfg.seed}",
            )
        _accuracy_axes(axes, small=True)
        style_axes(axes, theme)
        axes.set_title(one.label, fontsize=9, color=theme.foreground)
        if index == 0:
            legend(axes, theme, outside=True)
    return figure


def seeds(series: Sequence[Series], theme: Theme) -> Figure:
    """Final accuracy of every seed, with the mean and 95 % interval of each series."""
    figure, axes = new_axes(theme, width=8, height=0.8 + 0.45 * len(series))
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
    axes.set_yticks(range(len(series)), [one.label for one in series], fontsize=8)
    axes.set_ylim(len(series) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("final exact match: each seed, the mean and its 95 % interval", fontsize=9)
    return figure


def heat_map(
    grid: Mapping[tuple[float, float], float],
    marks: Mapping[tuple[float, float], str],
    theme: Theme,
) -> Figure:
    """Final accuracy by Δ and λ.

    Args:
        grid: the accuracy by (Δ, λ).
        marks: a remark below the accuracy, such as how much of the chain was removed.
        theme: colours.
    """
    deltas = sorted({delta for delta, _ in grid})
    lambdas = sorted({smoothing for _, smoothing in grid})
    figure, axes = new_axes(theme, width=2.6 + 1.1 * len(lambdas), height=1.7 + 0.7 * len(deltas))
    axes.grid(visible=False)
    values = [[grid.get((delta, lam), math.nan) for lam in lambdas] for delta in deltas]
    found = [v for v in grid.values() if not math.isnan(v)]
    image = axes.imshow(values, cmap=theme.heat, vmin=min(found), vmax=max(found), aspect="auto")
    middle = (min(found) + max(found)) / 2
    for (i, delta), (j, lam) in product(enumerate(deltas), enumerate(lambdas)):
        value = grid.get((delta, lam), math.nan)
        missing = math.isnan(value)
        color = theme.foreground if missing else ("#000000" if value > middle else "#ffffff")
        text = "missing" if missing else f"{value:.3f}"
        if marks.get((delta, lam)):
            text += f"\n{marks[delta, lam]}"
        axes.text(j, i, text, ha="center", va="center", color=color, fontsize=8)
    names = ["no smoothing" if math.isinf(x) else f"{x:g}" for x in lambdas]
    axes.set_xticks(range(len(lambdas)), names)
    axes.set_yticks(range(len(deltas)), [f"{x:g}" for x in deltas])
    axes.set_xlabel("smoothing λ")
    axes.set_ylabel("tokens removed per epoch, Δ")
    bar = figure.colorbar(image, ax=axes, label="final exact match")
    bar.ax.tick_params(colors=theme.foreground)
    bar.ax.yaxis.label.set_color(theme.foreground)
    return figure


def offset_distribution(lambdas: Sequence[float], theme: Theme) -> Figure:
    """The probability that o more tokens are removed than the schedule says (Figure 2b)."""
    figure, axes = new_axes(theme, width=7, height=3.4)
    most = 8
    for i, smoothing in enumerate(lambdas):
        probabilities = offset_probabilities(smoothing)[: most + 1].tolist()
        axes.plot(
            range(most + 1),
            probabilities,
            marker=MARKERS[i % len(MARKERS)],
            linestyle=DASHES[i % len(DASHES)],
            color=theme.series[i % len(theme.series)],
            label=f"λ = {smoothing:g}",
        )
    axes.set_yscale("log")
    axes.set_ylim(1e-5, 1.5)
    axes.set_xlabel("tokens removed beyond the schedule's, o")
    axes.set_ylabel("probability")
    legend(axes, theme)
    return figure


def tradeoffs(runs: Sequence[tuple[str, Run]], theme: Theme) -> Figure:
    """Accuracy against speed over No CoT for the stages of each run (Figure 2a)."""
    figure, axes = new_axes(theme, width=7.5, height=4.4)
    for i, (label, run) in enumerate(runs):
        points = [p for p in run.tradeoff if not p["baseline"]]
        front = sorted((p for p in points if not p["dominated"]), key=lambda p: p["speed"])
        color = theme.series[i % len(theme.series)]
        style: dict[str, Any] = {"color": color, "marker": MARKERS[i % len(MARKERS)]}
        rest = [p for p in points if p["dominated"]]
        axes.plot(
            [p["speed"] for p in front],
            [p["accuracy"] for p in front],
            linestyle=DASHES[i % len(DASHES)],
            label=label,
            **style,
        )
        axes.plot(
            [p["speed"] for p in rest],
            [p["accuracy"] for p in rest],
            linestyle="none",
            alpha=0.35,
            **style,
        )
        for point in front:
            axes.annotate(
                f"{point['tokens_removed']:.0f}",
                (point["speed"], point["accuracy"]),
                xytext=(5, 4),
                textcoords="offset points",
                fontsize=8,
                color=theme.foreground,
            )
    axes.set_ylim(-0.03, 1.06)
    axes.set_xlim(left=0)
    axes.set_xlabel("speed at batch 1, as a multiple of No CoT (numbers: tokens removed)")
    axes.set_ylabel("exact match")
    legend(axes, theme)
    return figure


def outside(stages: Sequence[Mapping[str, Any]], theme: Theme) -> Figure:
    """Accuracy of each stage on the run's own examples and on further ones."""
    figure, axes = new_axes(theme, width=7.5, height=4)
    removed = [one["tokens_removed"] for one in stages]
    lines = {"own examples": [one["accuracy"] for one in stages]}
    for name in stages[-1]["also"]:
        lines[name] = [one["also"][name]["accuracy"] for one in stages]
    for i, (name, accuracies) in enumerate(lines.items()):
        axes.plot(
            removed,
            accuracies,
            marker=MARKERS[i % len(MARKERS)],
            linestyle=DASHES[i % len(DASHES)],
            color=theme.series[i % len(theme.series)],
            label=name,
        )
    _accuracy_axes(axes)
    axes.set_ylabel("exact match")
    legend(axes, theme)
    return figure


def _label(series: Series) -> str:
    count = len(series.seeds)
    return series.label + (f" ({count} seeds)" if count > 1 else "")


def _accuracy_axes(axes: Axes, small: bool = False) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(-0.02, 1.03)
    size = 8 if small else 10
    axes.set_xlabel("chain-of-thought tokens removed", fontsize=size)
    axes.set_ylabel("validation exact match", fontsize=size)
