"""The style of figures, on light and dark backgrounds.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; lines also differ in marker
and dash.
"""

from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icot.system.files import replace_file

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Theme:
    """The colours of a figure."""

    foreground: str  # text and axes
    background: str
    muted: str
    series: tuple[str, ...]
    heat: str  # a colour map of matplotlib


LIGHT = Theme(
    foreground="#222222",
    background="#ffffff",
    muted="#6e6e6e",
    series=("#0072b2", "#d55e00", "#009e73", "#a8477f", "#8a6d00", "#3f3f9f", "#555555"),
    heat="cividis",
)
DARK = Theme(
    foreground="#e8e8e8",
    background="#16181c",
    muted="#a0a0a0",
    series=("#56b4e9", "#ff9147", "#2fd3a2", "#e59ccb", "#f0e442", "#a9a9ff", "#cccccc"),
    heat="cividis",
)

# Colours that stand for the theme of the reader's screen: "#0000xx" is a variable of the page.
SCREEN = Theme(
    foreground="#000001",
    background="#000002",
    muted="#000003",
    series=tuple(f"#0000{16 + i:02x}" for i in range(len(LIGHT.series))),
    heat="cividis",
)


def new_figure(theme: Theme, width: float, height: float) -> Figure:
    """An empty figure; sizes are in inches."""
    return Figure(
        figsize=(width, height), dpi=150, layout="constrained", facecolor=theme.background
    )


def new_axes(theme: Theme, width: float, height: float) -> "tuple[Figure, Axes]":
    """A figure with one set of axes in the theme's colours."""
    figure = new_figure(theme, width, height)
    axes = figure.add_subplot()
    style_axes(axes, theme)
    return figure, axes


def style_axes(axes: Axes, theme: Theme) -> None:
    """Apply the theme's colours to axes."""
    axes.set_facecolor(theme.background)
    axes.grid(color=theme.muted, alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(theme.muted)
    axes.tick_params(colors=theme.foreground)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_color(theme.foreground)


def legend(axes: Axes, theme: Theme, columns: int = 0) -> None:
    """Add a legend in the theme's colours: inside the axes, or in columns below them."""
    parent = axes.get_figure() if columns else axes
    assert parent is not None
    handles, labels = axes.get_legend_handles_labels()
    parent.legend(
        handles,
        labels,
        loc="outside lower center" if columns else "best",
        ncols=columns or 1,
        fontsize=8,
        labelcolor=theme.foreground,
        facecolor=theme.background,
        edgecolor=theme.muted,
        framealpha=0.9,
    )


def save(figure: Figure, path: Path) -> None:
    """Write a figure, in the format that the path's suffix names."""
    metadata = {"Date": None} if path.suffix == ".svg" else {}  # the same figure, the same file
    with replace_file(path, "wb") as file, rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(file, format=path.suffix[1:], metadata=metadata)
