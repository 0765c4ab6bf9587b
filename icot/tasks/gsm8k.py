"""GSM8K grade-school problems with only equations as the chain (arXiv 2405.14838, section 4.1).

    Janet's ducks lay 16 eggs a day ...||<<16-3-4=9>> <<9*2=18>> #### 18

Read from local text files (``TextFiles``), or from records (``Records``) of three shapes:

- ``whynlp/gsm8k-aug``: columns question, steps (a list of equations), answer;
- ``zen-E/GSM8k-Aug``: columns question, cot, answer;
- ``openai/gsm8k``: columns question, answer; the chain consists of the ``<<...>>`` notes in the
  worked answer, and the number follows ``####``.
"""

import re
from collections.abc import Mapping
from typing import Any

from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Example
from icot.tasks.lines import example_of, text_of

EQUATION = re.compile(r"<<[^<>]*>>")


def example_from_row(row: Mapping[str, Any]) -> Example:
    """The example in one row; line breaks become blanks.

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
