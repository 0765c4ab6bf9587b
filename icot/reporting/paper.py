"""The paper's numbers (arXiv 2405.14838), read from the experiments that reproduce them."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from icot.config.entry_points import CONFIG_MODULE

PAPER = "arXiv 2405.14838"
SIBLING = "_cpu"  # suffix of an experiment's CPU-sized sibling


@dataclass(frozen=True)
class PaperRow:
    """One number of the paper, or one curve.

    Attributes:
        experiment: the file that reproduces it; its CPU-sized sibling is ``sibling``.
        place: Table 2, say.
        row, column: its headings there.
        accuracy: exact match, None where the paper draws a curve.
        speed: examples per second over No CoT's, None where it is not given.
        tokens: median tokens of question, chain and answer (Table 1).
    """

    experiment: str
    place: str
    row: str
    column: str
    accuracy: float | None = None
    speed: float | None = None
    tokens: tuple[int, ...] = ()

    @property
    def sibling(self) -> str:
        """The same at CPU size."""
        return self.experiment + SIBLING

    @property
    def number(self) -> str:
        """What the paper says, as text."""
        if self.tokens:
            return " / ".join(map(str, self.tokens))
        if self.accuracy is None:
            return "a curve"
        return f"{self.accuracy:.2f}" + ("" if self.speed is None else f" at {self.speed:.2f}×")

    @property
    def command(self) -> str:
        """What reproduces it."""
        program = "prepare" if self.tokens else "train"
        return f"python -m icot.{program} experiment={self.experiment}"


@cache
def paper_rows() -> tuple[PaperRow, ...]:
    """Every number that an experiment is for, in the order of the paper."""
    rows = []
    for path in files(CONFIG_MODULE).joinpath("experiment").iterdir():
        name = path.name.removesuffix(".yaml")
        if name.endswith(SIBLING) or not path.name.endswith(".yaml"):
            continue
        paper = yaml.safe_load(path.read_text(encoding="utf-8"))["paper"]
        tokens = tuple(paper.pop("tokens", ()))
        rows.append(PaperRow(name, column=paper.pop("column", ""), tokens=tokens, **paper))
    places = ("Table", "Figure", "Appendix")
    order = ["full method", "Explicit CoT", "No CoT", "ICoT-SI"]
    columns = ["GPT-2 small", "GPT-2 medium", "Phi-3 3.8B", "Mistral 7B"]

    def position(row: PaperRow) -> tuple[int, str, int, int, str]:
        return (
            places.index(row.place.split()[0]),
            row.place,
            order.index(row.row) if row.row in order else len(order),
            columns.index(row.column) if row.column in columns else 0,
            row.experiment,
        )

    return tuple(sorted(rows, key=position))


def paper_row(experiment: str | None) -> PaperRow | None:
    """The number that an experiment, or its sibling, is for."""
    name = (experiment or "").removesuffix(SIBLING)
    return next((row for row in paper_rows() if row.experiment == name), None)
