"""The paper's numbers (arXiv 2405.14838), read from the experiment files."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from icot.config.experiments import (
    CONFIG_MODULE,
    GROUP,
    PROMPTED,
    SUFFIX,
    is_prompted,
    rows,
    short_name,
)
from icot.config.schema import PaperConfig

PAPER = "arXiv 2405.14838"
GPT = ("GPT-3.5 ", "GPT-4 ", "")  # before a row's name in Table 2
FOLDER = "icot_si"  # of its experiments, besides PROMPTED


@dataclass(frozen=True)
class PaperRow:
    """One number of the paper, or one curve.

    Attributes:
        experiment: the short name of its experiment; ``sibling`` is at CPU size.
        place: the table or figure, such as Table 2.
        row, column: its headings there.
        accuracy: exact match; None if the paper shows a curve.
        speed: examples per second over No CoT's; None if it is not given.
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
        """The CPU-sized version of the experiment."""
        return self.experiment + SUFFIX

    @property
    def number(self) -> str:
        """The published number as text."""
        if self.tokens:
            return " / ".join(map(str, self.tokens))
        if self.accuracy is None:
            return "a curve"
        return f"{self.accuracy:.2f}" + ("" if self.speed is None else f" at {self.speed:.2f}×")

    @property
    def command(self) -> str:
        """The command that reproduces it."""
        program = "prepare" if self.tokens else "train"
        program = "evaluate" if is_prompted(self.experiment) else program
        return f"python -m icot.{program} experiment={self.experiment}"


@cache
def paper_rows() -> tuple[PaperRow, ...]:
    """Every number that has an experiment, in the order of the paper."""
    found = []
    folder = files(CONFIG_MODULE).joinpath(GROUP)
    for paper, name in [row for row in rows() if row[0] in (FOLDER, PROMPTED)]:
        text = folder.joinpath(paper, f"{name}.yaml").read_text(encoding="utf-8")
        number = PaperConfig.model_validate(yaml.safe_load(text).get("paper") or {})
        if not number.place or not number.row:  # an experiment that is for no number
            continue
        values = (number.column or "", number.accuracy, number.speed, tuple(number.tokens))
        found.append(PaperRow(name, number.place, number.row, *values))
    places = ["Table", "Figure", "Appendix"]
    order = ["full method"]
    order += [f"{model}{way} CoT" for model in GPT for way in ("Explicit", "No")] + ["ICoT-SI"]
    columns = ["GPT-3.5", "GPT-4", "GPT-2 small", "GPT-2 medium", "Phi-3 3.8B", "Mistral 7B"]

    def position(row: PaperRow) -> tuple[int, str, int, int, str]:
        kind = row.place.split()[0]
        return (
            places.index(kind) if kind in places else len(places),
            row.place,
            order.index(row.row) if row.row in order else len(order),
            columns.index(row.column) if row.column in columns else 0,
            row.experiment,
        )

    return tuple(sorted(found, key=position))


def paper_row(experiment: str | None) -> PaperRow | None:
    """The number that an experiment or its sibling reproduces."""
    name = short_name(experiment or "").removesuffix(SUFFIX)
    return next((row for row in paper_rows() if row.experiment == name), None)
