"""The papers' numbers, read from the experiment files."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from icot.config.experiments import (
    CONFIG_MODULE,
    GROUP,
    SUFFIX,
    is_prompted,
    rows,
    short_name,
    sibling_settings,
)
from icot.config.schema import PaperConfig

PAPER = "arXiv 2405.14838"
# The rows of Table 2 before GPT-2's.
ASKED = tuple(f"{model} {way} CoT" for model in ("GPT-3.5", "GPT-4") for way in ("Explicit", "No"))
MATHGLM = tuple(f"MathGLM-{size}" for size in ("100M", "500M", "2B"))


@dataclass(frozen=True)
class PaperRow:
    """One number of the paper, or one curve.

    Attributes:
        experiment: the short name of its experiment.
        place: the table or figure, such as Table 2.
        row, column: its headings there.
        accuracy: exact match; None if the paper shows a curve.
        accuracies: exact match by pair of digit counts, where one run has several numbers.
        majority: exact match of the majority of 30 samples; None if it is not given.
        speed: examples per second over No CoT's; None if it is not given.
        tokens: median tokens of question, chain and answer (Table 1).
        source: the paper.
        method: of the run that has the number.
        pipeline: that has the run as a step; None if there is none.
        siblings: the CPU-sized version of the experiment, if it has one.
        sweep: what the runs of a curve differ in; None for a single run.
    """

    experiment: str
    place: str
    row: str
    column: str
    accuracy: float | None = None
    accuracies: tuple[tuple[str, float], ...] = ()
    majority: float | None = None
    speed: float | None = None
    tokens: tuple[int, ...] = ()
    source: str = PAPER
    method: str = "icot_si"
    pipeline: str | None = None
    siblings: tuple[str, ...] = ()
    sweep: str | None = None

    @property
    def name(self) -> str:
        """Where it stands."""
        text = f"{self.place}, {self.row}" + (f", {self.column}" if self.column else "")
        return text if self.source == PAPER else f"{text} ({self.source})"

    @property
    def number(self) -> str:
        """The published number as text."""
        if self.tokens:
            return " / ".join(map(str, self.tokens))
        texts = [] if self.accuracy is None else [_share(self.accuracy)]
        texts += [f"{_share(value)} ({pair})" for pair, value in self.accuracies]
        texts += [] if self.majority is None else [f"majority {_share(self.majority)}"]
        if not texts:
            return "a curve"
        return ", ".join(texts) + ("" if self.speed is None else f" at {self.speed:.2f}×")

    @property
    def command(self) -> str:
        """The command that reproduces it."""
        if self.pipeline is not None:
            which = f"+pipeline={self.pipeline} experiment={self.experiment}"
            return f"python -m icot.pipeline {which}"
        program = "prepare" if self.tokens else "train"
        program = "evaluate" if is_prompted(self.experiment) else program
        if self.sweep is not None:
            return f"python -m icot.{program} -m experiment={self.experiment} {self.sweep}"
        return f"python -m icot.{program} experiment={self.experiment}"


def _share(value: float) -> str:
    """With two digits, or as many as are published."""
    return f"{value:.2f}" if round(value, 2) == value else f"{value:.3f}"


@cache
def paper_rows() -> tuple[PaperRow, ...]:
    """Every number that has an experiment, in the order of the paper."""
    found = []
    folder = files(CONFIG_MODULE).joinpath(GROUP)
    for paper, name in rows():
        text = folder.joinpath(paper, f"{name}.yaml").read_text(encoding="utf-8")
        number = PaperConfig.model_validate(yaml.safe_load(text).get("paper") or {})
        if not number.place or not number.row:  # an experiment that is for no number
            continue
        sibling = sibling_settings(paper, name)
        row = PaperRow(
            name,
            number.place,
            number.row,
            number.column or "",
            accuracy=number.accuracy,
            accuracies=tuple(number.accuracies.items()),
            majority=number.majority,
            speed=number.speed,
            tokens=tuple(number.tokens),
            source=number.source,
            method=number.method,
            pipeline=number.pipeline,
            siblings=() if sibling is None else (name + SUFFIX,),
            sweep=number.sweep,
        )
        found.append(row)
    places = ["Table", "Figure", "Appendix"]
    order = ["full method", *ASKED, *MATHGLM, "Explicit CoT", "No CoT"]
    order += [f"ICoT-KD{model}" for model in (", GPT-2 small", ", GPT-2 medium", "")] + ["ICoT-SI"]
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


def paper_row(experiment: str | None, method: str = "icot_si") -> PaperRow | None:
    """The number that a method's run of an experiment, or of its sibling, reproduces."""
    name = short_name(experiment or "").removesuffix(SUFFIX)
    found = (row for row in paper_rows() if (row.experiment, row.method) == (name, method))
    return next(found, None)
