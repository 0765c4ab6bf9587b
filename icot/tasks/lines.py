"""An example as a line of a text file: written only if it reads back as the same example.

Tom has 3 apples and eats one. How many are left?||<<3-1=2>> #### 2
"""

import re
from typing import Any

from icot.tasks.answers import ANSWER_MARK, clean_answer
from icot.tasks.base import Example

LINE_BREAK = re.compile(r"\s*[\r\n]+\s*")
BYTE_ORDER_MARK = "\ufeff"  # some editors write it at the start of a file


def parse_line(line: str) -> Example:
    """The example in one line.

    Raises:
        ValueError: the line is not in the format; the message says why.
    """
    parts = line.split("||")
    if len(parts) != 2:
        raise ValueError(f"has {len(parts) - 1} times '||' instead of once")
    question, rest = parts
    cot, mark, answer = rest.partition(ANSWER_MARK)
    if not mark:
        raise ValueError(f"has no '{ANSWER_MARK}' before the answer")
    if not question.strip():
        raise ValueError("has no question before '||'")
    if not clean_answer(answer):
        raise ValueError(f"has no answer after '{ANSWER_MARK}'")
    return Example(question.strip(), cot.strip(), answer.strip())


def write_line(example: Example) -> str:
    """The line of an example; reading it gives the same example.

    Raises:
        ValueError: no line does that; the message says why.
    """
    line = example.line()
    if "\n" in line:
        raise ValueError("contains a line break")
    if line.startswith(BYTE_ORDER_MARK):
        raise ValueError("begins with a byte order mark")
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("contains half of a character, which UTF-8 cannot write") from None
    read = parse_line(line)
    if ANSWER_MARK in example.cot:
        raise ValueError(f"has '{ANSWER_MARK}' in its chain")
    if read != example:
        raise ValueError("begins or ends a part with white space")
    return line


def example_of(question: Any, cot: str, answer: Any) -> Example:
    """An example of texts or numbers, each on one line.

    Raises:
        ValueError: no text file could hold it.
    """
    asked = " ".join(text_of(question, "question").split())
    example = Example(asked, cot.strip(), text_of(answer, "answer"))
    write_line(example)
    return example


def text_of(value: Any, part: str) -> str:
    """A text or a number of a row as text on one line."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    if not isinstance(value, str) and not is_number:
        raise ValueError(f"its {part} is {value!r}, which is neither a text nor a number")
    return LINE_BREAK.sub(" ", str(value).strip())
