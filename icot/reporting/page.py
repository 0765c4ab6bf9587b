"""A document as one self-contained HTML page, and as Markdown with figure files."""

import base64
import io
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment

from icot.reporting.document import Code, Document, Picture, Table
from icot.reporting.theme import DARK, LIGHT, Theme, save
from icot.system.files import replace_file, write_text

HTML, MARKDOWN, FIGURES = "report.html", "report.md", "figures"


def write_report(document: Document, folder: Path) -> None:
    """Write report.html, report.md, and each picture as figures/NAME.png and .svg.

    Raises:
        RunError: a file cannot be written.
    """
    for picture in document.pictures:
        save(picture.draw(LIGHT), folder / FIGURES / f"{picture.name}.png")
        with replace_file(folder / FIGURES / f"{picture.name}.svg", "wb") as file:
            file.write(_svg(picture, LIGHT))
    write_text(folder / MARKDOWN, markdown(document))
    write_text(folder / HTML, page(document))


def page(document: Document) -> str:
    """The document as HTML with embedded figures, for light and dark screens."""
    template = files("icot.reporting").joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.tests["code"] = lambda cell: isinstance(cell, Code)
    return environment.from_string(template).render(
        document=document, light=lambda p: _embed(p, LIGHT), dark=lambda p: _embed(p, DARK)
    )


def markdown(document: Document) -> str:
    """The document as Markdown."""
    parts = [f"# {document.title}", document.text]
    for section in document.sections:
        parts.append(f"## {section.title}")
        if section.text:
            parts.append(section.text)
        parts += [_markdown_table(table) for table in section.tables]
        for picture in section.pictures:
            parts.append(f"![{picture.alternative}]({FIGURES}/{picture.name}.png)")
            parts.append(picture.caption)
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    rule = ["---:" if i in table.numeric else "---" for i in range(len(table.header))]
    rows = [[_markdown_cell(cell) for cell in row] for row in table.rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(table.header), rule, *rows])


def _markdown_cell(cell: str) -> str:
    text = cell.replace("|", "\\|")
    return f"`{text}`" if isinstance(cell, Code) and text else text


def _embed(picture: Picture, theme: Theme) -> str:
    """A figure as a data URI."""
    return "data:image/svg+xml;base64," + base64.b64encode(_svg(picture, theme)).decode()


@lru_cache(maxsize=128)  # the files and the page have the same figures
def _svg(picture: Picture, theme: Theme) -> bytes:
    buffer = io.BytesIO()
    picture.draw(theme).savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
