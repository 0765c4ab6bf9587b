"""What a report is made of, whatever it is written as: sections of text, tables and pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from icot.reporting.theme import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Code(str):
    """A cell that holds a command or a path."""


@dataclass(frozen=True)
class Table:
    """Cells by row; columns whose index is in ``numeric`` are set to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Picture:
    """A figure that can be drawn in any theme.

    Attributes:
        name: of its files, without suffix.
        alternative: what it shows, for who does not see it, with the numbers.
        caption: how to read it.
        draw: makes it.
    """

    name: str
    alternative: str
    caption: str
    draw: "Callable[[Theme], Figure]"


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it, in order: text, then tables, then pictures."""

    title: str
    text: str = ""
    tables: Sequence[Table] = field(default_factory=tuple)
    pictures: Sequence[Picture] = field(default_factory=tuple)


@dataclass(frozen=True)
class Document:
    """A report."""

    title: str
    text: str
    sections: Sequence[Section]

    @property
    def pictures(self) -> list[Picture]:
        """All of them."""
        return [picture for section in self.sections for picture in section.pictures]
