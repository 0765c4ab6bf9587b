"""GSM8K grade-school problems with only equations as the chain (arXiv 2405.14838, section 4.1).

    Janet's ducks lay 16 eggs a day ...||<<16-3-4=9>> <<9*2=18>> #### 18

Read from local text files (``TextFiles``), or from a hub data set in one of three formats:

- ``whynlp/gsm8k-aug``: columns question, steps (a list of equations), answer;
- ``zen-E/GSM8k-Aug``: columns question, cot, answer;
- ``openai/gsm8k``: columns question, answer; the chain consists of the ``<<...>>`` notes in the
  worked answer, and the number follows ``####``.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from icot.errors import DataError
from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Example, Split
from icot.tasks.hub import hub_rows
from icot.tasks.lines import example_of, text_of
from icot.tasks.reading import OnBadLine, ReadTask

EQUATION = re.compile(r"<<[^<>]*>>")
COLUMNS = ("question", "answer")  # of every format
ADVICE = "task.on_bad_line=skip skips and counts such rows."


def example_from_row(row: Mapping[str, Any]) -> Example:
    """The example in one row of a hub data set; line breaks become blanks.

    Raises:
        ValueError: it has none that a text file could hold: a part is missing, is no text, or
            contains the mark that begins another part.
    """
    answer = text_of(row["answer"], "answer")
    if "steps" in row:
        steps = row["steps"]
        if not isinstance(steps, list | tuple):
            raise ValueError(f"its steps are {steps!r}, not a list of texts")
        cot = " ".join(text_of(step, "step") for step in steps)
    elif "cot" in row:
        cot = text_of(row["cot"], "cot")
    else:
        worked, answer = _split_worked_answer(answer)
        cot = " ".join(EQUATION.findall(worked))
    return example_of(row["question"], cot, answer)


def natural_example_from_row(row: Mapping[str, Any]) -> Example:
    """The same for a row of ``openai/gsm8k``, with the worked answer's sentences as the chain.

    Its notes are left out; this is the text of the published ``train_no_aug.txt``.

    Raises:
        ValueError: as above.
    """
    worked, answer = _split_worked_answer(text_of(row["answer"], "answer"))
    return example_of(row["question"], " ".join(EQUATION.sub("", worked).split()), answer)


def _split_worked_answer(text: str) -> tuple[str, str]:
    """What stands before the last answer mark, and what behind it."""
    worked, mark, answer = text.rpartition(ANSWER_MARK)
    if not mark:
        raise ValueError(f"its answer has no '{ANSWER_MARK}'")
    return worked, answer


def difficulty(cot: str) -> dict[str, float]:
    """The number of equations in a chain; empty if it has none."""
    count = len(EQUATION.findall(cot))
    return {"equations": count} if count else {}


class HubGSM8K(ReadTask):
    """GSM8K through the ``datasets`` library.

    Args:
        dataset: hub name, or a folder that ``datasets`` can load.
        subset: the data set's configuration name, ``main`` for ``openai/gsm8k``.
        revision: a commit or tag that pins the download.
        held_out: without a validation split, this many last training rows become it.
        train_size, valid_size, test_size: the number of examples to use, from the start.
        on_bad_line: at a row that makes no example, ``raise`` or ``skip``.
    """

    name = "gsm8k"

    def __init__(
        self,
        dataset: str,
        subset: str | None = None,
        revision: str | None = None,
        held_out: int = 500,
        train_size: int | None = None,
        valid_size: int | None = None,
        test_size: int | None = None,
        on_bad_line: OnBadLine = "raise",
    ) -> None:
        super().__init__({"train": train_size, "valid": valid_size, "test": test_size}, on_bad_line)
        self.dataset, self.subset, self.revision = dataset, subset, revision
        self.held_out = held_out

    def size(self, split: Split) -> None:
        """Unknown before reading."""

    def fingerprint(self, split: Split) -> Mapping[str, Any]:
        """The data set's name and revision; pin a revision where the data may change."""
        skips = {} if self.on_bad_line == "raise" else {"on_bad_line": self.on_bad_line}
        return {
            "task": "gsm8k",
            "version": 1,
            "dataset": self.dataset,
            "subset": self.subset,
            "revision": self.revision,
            "held_out": self.held_out,
            "limit": self.sizes[split],
            "split": split,
            **skips,
        }

    def difficulty(self, example: Example) -> Mapping[str, float]:
        """The number of equations."""
        return difficulty(example.cot)

    def read(self, split: Split) -> Iterator[Example | None]:
        """The examples of ``split`` in order, None for each bad row that is skipped.

        Raises:
            DataError: the data set cannot be loaded, its columns have no known format, or it has a
                bad row and ``on_bad_line`` is ``raise``.
        """
        name, begin, rows = hub_rows(self.dataset, self.subset, self.revision, split, self.held_out)
        where = f"data set {self.dataset}, split {name}"
        if missing := [column for column in COLUMNS if column not in rows.column_names]:
            have = ", ".join(rows.column_names)
            raise DataError(f"{where}: has the columns {have}, but no {' and no '.join(missing)}.")
        for number, row in enumerate(rows, start=begin):
            try:
                yield example_from_row(row)
            except ValueError as error:
                self.refuse(f"{where}, row {number} (counted from 0)", error, ADVICE)
                yield None
