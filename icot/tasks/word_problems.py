"""Word problems to judge a GSM8K model on: SVAMP, MultiArith and GSM-Hard.

    Jack received 10 emails in the morning and 3 in the afternoon. How many in all?|| #### 13

They have no chains that such a model writes. Numbers are written as in GSM8K: 13.0 is 13. Sources:
arXiv 2103.07191 (SVAMP), Roy and Roth 2015 (MultiArith), arXiv 2211.10435 (GSM-Hard).
"""

from collections.abc import Mapping
from typing import Any

from icot.tasks.base import Example
from icot.tasks.lines import example_of


def svamp(row: Mapping[str, Any]) -> Example:
    """A row with Body, Question and Answer."""
    body, question = str(row["Body"]).strip(), str(row["Question"]).strip()
    end = "" if not body or body[-1] in ".!?," else "."
    return example_of(f"{body}{end} {question}", "", _number(row["Answer"]))


def multiarith(row: Mapping[str, Any]) -> Example:
    """A row with sQuestion and lSolutions (the authors' file), or question and final_ans (the hub).

    Raises:
        ValueError: there is not exactly one solution.
    """
    if "sQuestion" not in row:
        return example_of(row["question"], "", _number(row["final_ans"]))
    solutions = row["lSolutions"]
    if not isinstance(solutions, list) or len(solutions) != 1:
        raise ValueError(f"its lSolutions are {solutions!r}, not one number")
    return example_of(row["sQuestion"], "", _number(solutions[0]))


def gsm_hard(row: Mapping[str, Any]) -> Example:
    """A row with input and target."""
    return example_of(row["input"], "", _number(row["target"]))


def _number(value: Any) -> Any:
    """A number without a fraction of zero; anything else as it is."""
    try:
        number = float(str(value).replace(",", ""))
    except ValueError:
        return value
    if isinstance(value, int) or not number.is_integer():
        return value
    return str(int(number))
