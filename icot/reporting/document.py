"""The parts of a report, independent of its format: sections of text, cards, tables, figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icot.reporting.theme import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Code(str):
    """A cell that holds a command or a path."""


@dataclass(frozen=True)
class Table:
    """Cells by row.

    Attributes:
        header: the names of the columns.
        rows: their cells.
        numeric: the indices of columns that are right-aligned.
        folded: the line that opens it; "" for a table that is open.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()
    folded: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure that can be drawn in any theme.

    Attributes:
        name: the file name, without suffix.
        alternative: what it shows, in a sentence.
        caption: how to read it.
        table: its numbers, for those who cannot see it.
        points: what a reader is told at a point, and its place in the coordinates of the first
            axes, x and y.
        draw: draws it.
    """

    name: str
    alternative: str
    caption: str
    table: Table
    points: Sequence[tuple[str, float, float]]
    draw: "Callable[[Theme], Figure]"


@dataclass(frozen=True)
class Card:
    """What one run, or a series of seeds, came to.

    Attributes:
        title: names it.
        figure: the number that matters most.
        meaning: what that number is.
        facts: further facts by name.
        tables, pictures: in this order, after the facts.
    """

    title: str
    figure: str
    meaning: str
    facts: Mapping[str, str]
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class Section:
    """A heading, followed by text, cards, tables and figures in this order."""

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    cards: Sequence[Card] = ()


@dataclass(frozen=True)
class Document:
    """A report."""

    title: str
    text: str
    sections: Sequence[Section]

    @property
    def pictures(self) -> list[Picture]:
        """The figures of all sections and cards."""
        parts: list[Section | Card] = []
        for section in self.sections:
            parts += [*section.cards, section]
        return [picture for part in parts for picture in part.pictures]
