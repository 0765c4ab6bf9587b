"""How figures look: on light paper, for files, and on both light and dark pages.

Colours are Okabe and Ito's, which colour-blind readers tell apart; lines differ in marker and dash,
too.
"""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icot.system.files import replace_file

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Theme:
    """Colours of a figure: of text and axes, of what lies behind, of the series in turn."""

    ink: str
    paper: str
    faint: str
    series: tuple[str, ...]
    heat: str  # matplotlib's name of a colour map


LIGHT = Theme(
    ink="#222222",
    paper="#ffffff",
    faint="#6e6e6e",
    series=("#0072b2", "#d55e00", "#009e73", "#a8477f", "#8a6d00", "#3f3f9f", "#555555"),
    heat="cividis",
)
DARK = Theme(
    ink="#e8e8e8",
    paper="#16181c",
    faint="#a0a0a0",
    series=("#56b4e9", "#ff9147", "#2fd3a2", "#e59ccb", "#f0e442", "#a9a9ff", "#cccccc"),
    heat="cividis",
)


def sheet(theme: Theme, width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor=theme.paper)


def panel(theme: Theme, width: float, height: float) -> "tuple[Figure, Axes]":
    """A figure with one panel in the theme's colours."""
    figure = sheet(theme, width, height)
    axes = figure.add_subplot()
    dress(axes, theme)
    return figure, axes


def dress(axes: Axes, theme: Theme) -> None:
    """Give axes the theme's colours."""
    axes.set_facecolor(theme.paper)
    axes.grid(color=theme.faint, alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(theme.faint)
    axes.tick_params(colors=theme.ink)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_color(theme.ink)


def legend(axes: Axes, theme: Theme, outside: bool = False) -> None:
    """A legend in the theme's colours: where it hides least, or right of all axes."""
    place = axes.get_figure() if outside else axes
    assert place is not None
    handles, labels = axes.get_legend_handles_labels()
    place.legend(
        handles,
        labels,
        loc="outside right upper" if outside else "best",
        fontsize=8,
        labelcolor=theme.ink,
        facecolor=theme.paper,
        edgecolor=theme.faint,
        framealpha=0.9,
    )


def save(figure: Figure, path: Path) -> None:
    """Write a figure, in the format that the path's suffix names."""
    with replace_file(path, "wb") as file:
        figure.savefig(file, format=path.suffix[1:], metadata=_undated(path))


def _undated(path: Path) -> dict[str, None]:
    """What keeps the same figure the same file."""
    return {"Date": None} if path.suffix == ".svg" else {}
