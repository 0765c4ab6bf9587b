"""The parts of a report, independent of its format: sections of text, tables and figures."""

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
    """Cells by row; columns whose index is in ``numeric`` are right-aligned."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Picture:
    """A figure that can be drawn in any theme.

    Attributes:
        name: the file name, without suffix.
        alternative: the alternative text, with the numbers.
        caption: how to read it.
        draw: draws it.
    """

    name: str
    alternative: str
    caption: str
    draw: "Callable[[Theme], Figure]"


@dataclass(frozen=True)
class Section:
    """A heading, followed by text, tables and figures in this order."""

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
        """The figures of all sections."""
        return [picture for section in self.sections for picture in section.pictures]
