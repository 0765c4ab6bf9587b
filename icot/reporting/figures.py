"""Figures as files. Colours differ in lightness, so that they can be told apart in grey."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from icot.evaluation.tradeoff import ALSO
from icot.reporting.theme import DASHES, LIGHT, MARKERS, new_axes, new_figure, save, style_axes

BLUE, GREY, ORANGE, FAINT = "#1f5a99", "#6e6e6e", "#e08a1e", "#b9c7d8"
FASTEST = 1.15  # right edge of the trade-off's points; No CoT is 1
MOST_LABELS = 14  # labels of the groups of one panel


def accuracy_by_tokens_removed(
    rows: Sequence[Mapping[str, Any]], longest_cot: int, path: Path, title: str = ""
) -> None:
    """Validation accuracy at the end of each stage against the tokens removed there (Figure 3).

    Args:
        rows: the rows of stages.csv.
        longest_cot: tokens of the longest chain.
        path: the file to write.
        title: above the plot.
    """
    figure, axes = new_axes(LIGHT, width=7, height=4)
    measured = [row for row in rows if row.get("val_accuracy") is not None]
    x = [row["tokens_removed"] for row in measured]
    y = [row["val_accuracy"] for row in measured]
    below = [row["val_accuracy"] - row["val_accuracy_low"] for row in measured]
    above = [row["val_accuracy_high"] - row["val_accuracy"] for row in measured]
    axes.errorbar(
        x, y, yerr=[below, above], color=BLUE, marker="o", markersize=4, capsize=2, linewidth=1.5
    )
    _vertical(axes, longest_cot, "chain fully removed")
    width = max(1, longest_cot)  # there may be no chain at all
    axes.set_xlim(-0.04 * width, 1.04 * width)
    axes.set_ylim(-0.02, 1.03)
    axes.set_xlabel("chain-of-thought tokens removed")
    axes.set_ylabel("validation exact match (95 % interval)")
    if title:
        axes.set_title(title, fontsize=11)
    save(figure, path)


def tradeoff(
    points: Sequence[Mapping[str, Any]], path: Path, title: str = "", measured_by: str = ""
) -> None:
    """Exact match against speed over No CoT, one point a stage (Figure 2a).

    The line joins the stages that no other dominates; the others are pale. Stages that are faster
    because their outputs end before an answer are at the right edge. Dashed lines are the accuracy
    on further examples.

    Args:
        points: the rows of tradeoff.csv.
        path: the file to write.
        title: above the plot.
        measured_by: text after the axis label: what the speed was measured on.
    """
    figure, axes = new_axes(LIGHT, width=7, height=4)
    shown = [{**p, "x": min(p["speed"], FASTEST)} for p in points]
    stages = [p for p in shown if not p["baseline"]]
    front = sorted((p for p in stages if not p["dominated"]), key=lambda p: p["x"])
    rest = [p for p in stages if p["dominated"]]
    inside = [p for p in rest if p["speed"] <= FASTEST]
    beyond = [p for p in rest if p["speed"] > FASTEST]
    _with_intervals(axes, front, color=BLUE, marker="o", linestyle="-", label="stage")
    _with_intervals(axes, inside, color=FAINT, marker="o", linestyle="none", label="dominated")
    _with_intervals(
        axes, beyond, color=FAINT, marker=">", linestyle="none", label="ends early, faster still"
    )
    for i, column in enumerate(name for name in points[0] if name.startswith(ALSO)):
        line = sorted(stages, key=itemgetter("x"))
        axes.plot(
            [p["x"] for p in line],
            [p[column] for p in line],
            marker=".",
            color=LIGHT.series[2 + i % 5],
            linestyle=DASHES[1 + i % 3],
            label=column.removeprefix(ALSO),
        )
    baselines = [p for p in shown if p["baseline"]]
    for point, marker in zip(baselines, MARKERS[1:], strict=False):
        _with_intervals(
            axes, [point], color=ORANGE, marker=marker, linestyle="none", label=point["name"]
        )
    for point in stages:
        removed = point["tokens_removed"]
        above = 4 + 9 * beyond.index(point) if point in beyond else 4  # they overlap
        whole = removed == 0  # the slowest, so there is room on its left
        axes.annotate(
            "0 (explicit CoT)" if whole else str(removed),
            (point["x"], point["accuracy"]),
            xytext=(-6 if whole else 6, above),
            ha="right" if whole else "left",
            textcoords="offset points",
            fontsize=8,
            color=GREY if point["dominated"] else BLUE,
        )
    _vertical(axes, 1.0, "speed of No CoT")
    axes.set_xlim(0, FASTEST + 0.05)
    axes.set_ylim(-0.04, 1.09)
    axes.set_xlabel(f"speed at batch 1, as a multiple of No CoT{measured_by}")
    axes.set_ylabel("exact match (95 % interval)")
    if title:
        axes.set_title(title, fontsize=11, loc="left")
    axes.legend(
        title="numbers: tokens removed", title_fontsize=8, fontsize=8, loc="best", framealpha=0.9
    )
    save(figure, path)


def failures(groups: Mapping[str, Sequence[Any]], path: Path, title: str = "") -> None:
    """Accuracy by answer position and by difficulty, one panel each.

    Args:
        groups: the groups of each panel, by its axis label; a group has ``label``, ``n``,
            ``accuracy`` and ``interval``.
        path: the file to write.
        title: above the plot.
    """
    panels = {name: of_one for name, of_one in groups.items() if of_one}
    figure = new_figure(LIGHT, width=7, height=2.6 * len(panels))
    all_axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (name, of_one) in zip(all_axes, panels.items(), strict=True):
        x = range(len(of_one))
        share = [g.accuracy for g in of_one]
        below = [g.accuracy - g.interval[0] for g in of_one]
        above = [g.interval[1] - g.accuracy for g in of_one]
        axes.bar(x, share, color=FAINT, edgecolor=BLUE, linewidth=0.8)
        axes.errorbar(x, share, yerr=[below, above], color=BLUE, fmt="none", capsize=2)
        few = len(of_one) <= MOST_LABELS
        ticks = list(x) if few else list(range(0, len(of_one), -(-len(of_one) // MOST_LABELS)))
        axes.set_xticks(ticks, [f"{of_one[i].label}\nn={of_one[i].n:,}" for i in ticks])
        axes.tick_params(labelsize=7)
        axes.set_ylim(0, 1.05)
        axes.set_xlabel(name, fontsize=9)
        axes.set_ylabel("share right", fontsize=9)
        style_axes(axes, LIGHT)
    if title:
        figure.suptitle(title, fontsize=11)
    save(figure, path)


def _vertical(axes: Axes, x: float, label: str) -> None:
    axes.axvline(x, color=GREY, linestyle="--", linewidth=1)
    axes.annotate(
        label,
        (x, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=GREY,
        fontsize=9,
    )


def _with_intervals(axes: Axes, points: Sequence[Mapping[str, Any]], **style: Any) -> None:
    if not points:
        return
    y = [p["accuracy"] for p in points]
    below = [p["accuracy"] - p["accuracy_low"] for p in points]
    above = [p["accuracy_high"] - p["accuracy"] for p in points]
    x = [p["x"] for p in points]
    axes.errorbar(x, y, yerr=[below, above], markersize=5, capsize=2, linewidth=1.5, **style)
