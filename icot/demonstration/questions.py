"""What a visitor types, and the example that a model is asked.

123 and 456, as people write them    ->   3 2 1 * 6 5 4    (multiplication)
a text                               ->   the text         (any other task)
"""

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from icot.demonstration.long_multiplication import is_product
from icot.errors import UserError
from icot.tasks.base import Example, Task
from icot.tasks.carries import QUESTION
from icot.tasks.mixed_digits import MixedMultiplication
from icot.tasks.multiplication import Multiplication
from icot.tasks.multiplication import example as product

GROUPED = re.compile(r"[0-9]+|[0-9]{1,3}([,.'’_][0-9]{3})+")
LONGEST_NUMBER, LONGEST_TEXT = 40, 2000  # characters


class RefusedError(UserError):
    """A question that is not asked; the message is a sentence for the visitor."""


class Questions(Protocol):
    """The kind of questions that a page takes."""

    @property
    def labels(self) -> Sequence[str]:
        """Of the fields to type into."""

    def check(self, typed: Sequence[str]) -> str:
        """What was typed, as it is shown.

        Raises:
            RefusedError: it is no question.
        """

    def example(self, typed: Sequence[str], task: Task, known: Mapping[str, Example]) -> Example:
        """The example to ask a model of ``task``, without chain and answer where nobody knows them.

        Args:
            typed: that ``check`` has not refused.
            task: the model's.
            known: the task's held-out examples by question.

        Raises:
            RefusedError: the model was not trained on such questions.
        """

    def type(self, example: Example, task: Task) -> list[str]:
        """What to type to ask an example of ``task``."""


def questions_for(tasks: Sequence[Task]) -> Questions:
    """Two numbers where all tasks are multiplication, else a text."""
    return Numbers() if all(is_product(task) for task in tasks) else Text()


class Numbers:
    """Two numbers to multiply."""

    labels = ("First number", "Second number")

    def check(self, typed: Sequence[str]) -> str:
        """The product to work out: ``123 × 456``."""
        a, b = _numbers(typed)
        return f"{a:,} × {b:,}"

    def example(self, typed: Sequence[str], task: Task, known: Mapping[str, Example]) -> Example:
        """The example, with the chain that training had."""
        assert is_product(task)
        a, b = _numbers(typed)
        pair = len(str(a)), len(str(b))
        if isinstance(task, Multiplication):
            if pair == (task.digits, task.digits):
                return product(a, b, task.digits, task.chain)
            wanted = f"numbers of exactly {task.digits} digits"
        else:
            if pair in task.pairs:
                return task.write(*(_digits(x) for x in (a, b)))[0]
            digits = sorted({n for both in task.pairs for n in both})
            wanted = f"numbers of {digits[0]} to {digits[-1]} digits"
            if all(n1 == n2 for n1, n2 in task.pairs):
                wanted += ", both of as many"
        raise RefusedError(
            f"This model was trained on {wanted}; yours have {pair[0]} and {pair[1]}."
        )

    def type(self, example: Example, task: Task) -> list[str]:
        """The two numbers of an example."""
        is_plain = isinstance(task, MixedMultiplication) and task.order != "reversed"
        operands = [part.split() for part in example.question.split("*")]
        return [str(int("".join(d if is_plain else reversed(d)))) for d in operands]


def _numbers(typed: Sequence[str]) -> list[int]:
    """The numbers typed.

    Raises:
        RefusedError: they are none.
    """
    found = []
    for label, text in zip(Numbers.labels, typed, strict=True):
        _check_length(label, text, LONGEST_NUMBER)
        digits = "".join(text.split())
        if not digits:
            raise RefusedError(f"{label}: type a whole number, such as 123.")
        if not GROUPED.fullmatch(digits):
            raise RefusedError(f"{label}: a whole number has digits alone, and no sign.")
        number = int(re.sub(r"[^0-9]", "", digits))
        if number == 0:
            raise RefusedError(f"{label}: must be above 0.")
        found.append(number)
    return found


def _check_length(label: str, text: str, longest: int) -> None:
    if len(text) > longest:
        raise RefusedError(
            f"{label}: {len(text):,} characters are too many; {longest:,} are allowed."
        )


def _digits(number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """A number's digits [1, n], least significant first."""
    return np.array([[int(digit) for digit in reversed(str(number))]], dtype=np.int64)


class Text:
    """A question in the task's own text."""

    labels = ("Question",)

    def check(self, typed: Sequence[str]) -> str:
        """The question."""
        (text,) = typed
        _check_length(self.labels[0], text, LONGEST_TEXT)
        if not text.strip():
            raise RefusedError("Question: type one, or take a random one.")
        return " ".join(text.split())

    def example(self, typed: Sequence[str], task: Task, known: Mapping[str, Example]) -> Example:
        """The held-out example with this question, or a product's, or the question alone."""
        question = self.check(typed)
        held_out = known.get(question) or known.get(typed[0].strip())
        return held_out or _product(question, task) or Example(question, "", "")

    def type(self, example: Example, task: Task) -> list[str]:
        """The question."""
        return [example.question]


def _product(question: str, task: Task) -> Example | None:
    """The example of a question as multiplication writes it, ``2 1 * 2 1``; None for another.

    Raises:
        RefusedError: the model was not trained on such numbers.
    """
    if not is_product(task) or not QUESTION.fullmatch(question):
        return None
    asked = Example(question, "", "")
    found = Numbers().example(Numbers().type(asked, task), task, {})
    return found if found.question == question else None  # 2 0 is 02 as people write it
