"""A document as one self-contained HTML page, and as Markdown with figure files."""

import io
import re
from html import escape
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment
from matplotlib import rc_context

from icot.reporting.document import Card, Code, Document, Picture, Section, Table
from icot.reporting.theme import DARK, LIGHT, SCREEN, Theme, save
from icot.runs.layout import REPORT
from icot.system.files import write_text

MARKDOWN, FIGURES = "report.md", "figures"
POINT = (
    '<g class="point" tabindex="{tab}" role="img" aria-label="{text}">'
    '<circle cx="{x:.1f}" cy="{y:.1f}" r="8"/></g>'
)


def write_report(document: Document, folder: Path) -> None:
    """Write report.html, report.md, and each picture as figures/NAME.png and .svg.

    Raises:
        RunError: a file cannot be written.
    """
    for picture in document.pictures:
        figure = picture.draw(LIGHT)
        for suffix in ("png", "svg"):
            save(figure, folder / FIGURES / f"{picture.name}.{suffix}")
    write_text(folder / MARKDOWN, markdown(document))
    write_text(folder / REPORT, page(document))


def page(document: Document) -> str:
    """The document as HTML with its figures in it, for light and dark screens."""
    template = files("icot.reporting").joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.tests["code"] = lambda cell: isinstance(cell, Code)
    return environment.from_string(template).render(
        document=document, inline=_inline, light=_variables(LIGHT), dark=_variables(DARK)
    )


def _variables(theme: Theme) -> str:
    """The theme's colours as declarations of the page's variables."""
    colors = zip(_colors(SCREEN), _colors(theme), strict=True)
    return " ".join(f"--{name[1:]}: {color};" for name, color in colors)


def _colors(theme: Theme) -> list[str]:
    return [theme.foreground, theme.background, theme.muted, *theme.series]


def _inline(picture: Picture) -> str:
    """The picture as an element of the page, in the page's colours, with points to look at."""
    figure, buffer = picture.draw(SCREEN), io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": picture.name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") : drawing.rindex("</svg>")]
    drawing = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r' id="[\w.]+_\d+"', "", drawing)  # no other element refers to them
    for color in _colors(SCREEN):
        drawing = drawing.replace(color, f"var(--{color[1:]})")
    start = drawing.index(">") + 1
    width, height = figure.get_size_inches() * 72
    points = []
    for i, (text, x, y) in enumerate(picture.points):
        right, up = figure.axes[0].transData.transform((x, y)) * 72 / figure.dpi
        place = {"tab": -1 if i else 0, "x": right, "y": height - up}
        points.append(POINT.format(text=escape(text), **place))
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" style="width: {width * 1.5:g}px" role="group" '
        f'aria-label="{escape(picture.alternative)}"><g aria-hidden="true">{drawing[start:]}</g>'
        f"{''.join(points)}</svg>"
    )


def markdown(document: Document) -> str:
    """The document as Markdown."""
    parts = [f"# {document.title}", document.text]
    for section in document.sections:
        parts += [f"## {section.title}", section.text]
        for card in section.cards:
            facts = [
                f"- {name}: {_markdown_cell(fact)}" for name, fact in card.facts.items() if fact
            ]
            parts += [f"### {card.title}", f"**{card.figure}** {card.meaning}", "\n".join(facts)]
            parts += _tables_and_pictures(card)
        parts += _tables_and_pictures(section)
    return "\n\n".join(part for part in parts if part) + "\n"


def _tables_and_pictures(part: Card | Section) -> list[str]:
    texts = [_markdown_table(table) for table in part.tables]
    for picture in part.pictures:
        texts.append(f"![{picture.alternative}]({FIGURES}/{picture.name}.png)")
        texts += [picture.caption, _markdown_table(picture.table)]
    return texts


def _markdown_table(table: Table) -> str:
    rule = ["---:" if i in table.numeric else "---" for i in range(len(table.header))]
    rows = [[_markdown_cell(cell) for cell in row] for row in table.rows]
    text = "\n".join("| " + " | ".join(row) + " |" for row in [list(table.header), rule, *rows])
    if not table.folded:
        return text
    return f"<details><summary>{escape(table.folded)}</summary>\n\n{text}\n\n</details>"


def _markdown_cell(cell: str) -> str:
    text = cell.replace("|", "\\|")
    return f"`{text}`" if isinstance(cell, Code) and text else text
