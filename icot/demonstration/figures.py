"""The curve of a run, and the tally of random questions: SVG and HTML, made of values alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from icot.demonstration.writers import Writer
from icot.evaluation.scoring import wilson_interval

WIDTH, HEIGHT = 420, 180  # of the curve
EDGES = (48, 16, 14, 40)  # left, right, top, bottom


def show_curve(runs: Sequence[Sequence[Writer]], chosen: Sequence[Writer]) -> str:
    """Exact match against the chain tokens written, a line a run; chosen writers are marked."""
    measured = [[w for w in writers if w.accuracy is not None] for writers in runs]
    most = max((w.longest for writers in measured for w in writers), default=0)
    if not most:
        return ""
    names = {w.name for w in chosen}
    lines = "".join(
        _run_line(i, sorted(writers, key=lambda w: w.left), most, names)
        for i, writers in enumerate(measured)
        if writers
    )
    left, right, _, bottom = EDGES
    grid = "".join(
        f'<line class="grid" x1="{left - 12}" x2="{WIDTH - right}" y1="{_y(v)}" y2="{_y(v)}"/>'
        f'<text x="{left - 18}" y="{_y(v) + 4}" text-anchor="end">{v:g}</text>'
        for v in (0, 0.5, 1)
    )
    ticks = "".join(
        f'<text x="{_x(n, most)}" y="{HEIGHT - bottom + 16}" text-anchor="middle">{n}</text>'
        for n in sorted({0, most // 2, most})
    )
    label = (
        f'<text x="{(left + WIDTH - right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        "chain tokens written</text>"
    )
    return (
        f'<figure class="curve"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Exact match by chain tokens written">{grid}{ticks}{label}{lines}</svg>'
        f"<figcaption>{_caption(measured)}</figcaption>{_curve_table(measured, names)}</figure>"
    )


def _run_line(i: int, writers: Sequence[Writer], most: int, chosen: set[str]) -> str:
    points = [(w, _x(w.left, most), _y(w.accuracy.value)) for w in writers if w.accuracy]
    path = " ".join(f"{x},{y}" for _, x, y in points)
    bars = "".join(
        f'<line x1="{x}" x2="{x}" y1="{_y(w.accuracy.low)}" y2="{_y(w.accuracy.high)}"/>'
        for w, x, _ in points
        if w.accuracy
    )
    marks = "".join(
        f'<circle cx="{x}" cy="{y}" r="{8 if w.name in chosen else 4}"'
        f' class="{"chosen" if w.name in chosen else "point"}">'
        f"<title>{escape(w.name)}: {accuracy_of(w)}</title></circle>"
        for w, x, y in points
    )
    return f'<g class="run{i % 4}"><polyline points="{path}"/>{bars}{marks}</g>'


def _x(tokens: int, most: int) -> float:
    left, right, _, _ = EDGES
    return round(left + (WIDTH - left - right) * tokens / most, 1)


def _y(accuracy: float) -> float:
    _, _, top, bottom = EDGES
    return round(top + (HEIGHT - top - bottom) * (1 - accuracy), 1)


def _caption(measured: Sequence[Sequence[Writer]]) -> str:
    names = [
        f'<span class="run{i % 4}">● {escape(writers[0].run)}</span>'
        for i, writers in enumerate(measured)
        if writers
    ]
    return f"Exact match on held-out questions, as measured. {' '.join(names)}"


def _curve_table(measured: Sequence[Sequence[Writer]], chosen: set[str]) -> str:
    rows = [
        (w.name + (" (shown above)" if w.name in chosen else ""), str(w.left), accuracy_of(w))
        for writers in measured
        for w in writers
    ]
    table = _table("Curve", ("", "chain tokens written", "exact match (95 %)"), rows)
    return f"<details><summary>The same as a table</summary>{table}</details>"


@dataclass
class Count:
    """A writer's answers in a tally: how many, how many right, and tokens written."""

    asked: int = 0
    right: int = 0
    tokens: int = 0


def show_tally(tally: Mapping[str, Count]) -> str:
    """The tally of random questions, with intervals."""
    rows = []
    for name, count in tally.items():
        low, high = wilson_interval(count.right, count.asked)
        share = f"{count.right / count.asked:.3f} ({low:.3f}-{high:.3f})"
        tokens = f"{count.tokens / count.asked:.1f}"
        rows.append((name, f"{count.right} of {count.asked}", share, tokens))
    if not rows:
        return '<p class="faint">No question asked yet.</p>'
    return _table("Tally", ("", "right", "exact match (95 %)", "tokens each"), rows)


def _table(name: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in header)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for first, *cells in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div role="region" aria-label="{escape(name)}" tabindex="0">{table}</div>'


def accuracy_of(writer: Writer) -> str:
    """The measured exact match of a writer, which has one, with its interval."""
    found = writer.accuracy
    assert found is not None
    return f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f})"
