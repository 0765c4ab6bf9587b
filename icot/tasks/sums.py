"""Sums of several numbers, with the running sums as the chain.

Digits are written least significant first, as in ``icot.tasks.multiplication``; 21 + 94 + 50 is

    1 2 + 4 9 + 0 5||5 1 1 ; 5 6 1 #### 5 6 1

The running sum of i numbers has the digits that the largest such sum needs; the last running sum is
the answer.
"""

import re
from collections.abc import Mapping
from itertools import accumulate
from random import Random

from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Example
from icot.tasks.carries import NUMBER, number_of
from icot.tasks.generated import GeneratedTask

QUESTION = re.compile(rf"{NUMBER}(?: \+ {NUMBER})+")


class Sum(GeneratedTask):
    """``numbers`` numbers of exactly ``digits`` digits, drawn uniformly.

    Args:
        numbers: that are added, at least 2.
        digits: of each.
        train_size, valid_size, test_size: examples of each split (``icot.tasks.generated``).
        seed: of the numbers.

    Raises:
        ValueError: numbers or digits are too small.
    """

    def __init__(
        self,
        numbers: int = 4,
        digits: int = 3,
        train_size: int | None = None,
        valid_size: int | None = None,
        test_size: int | None = None,
        seed: int = 3456,
    ) -> None:
        if numbers < 2 or digits < 1:
            raise ValueError("numbers must be at least 2 and digits at least 1")
        self.name = f"sum{numbers}x{digits}"
        self.numbers, self.digits = numbers, digits
        questions = (9 * 10 ** (digits - 1)) ** numbers
        parameters = {"numbers": numbers, "digits": digits}
        super().__init__(parameters, questions, train_size, valid_size, test_size, seed)

    def symbols(self) -> tuple[str, ...]:
        """The ten digits, the signs and the answer mark."""
        return (*"0123456789+;", ANSWER_MARK)

    def draw(self, rng: Random) -> Example:
        """One example."""
        smallest = 10 ** (self.digits - 1)
        return self.example([rng.randrange(smallest, 10 * smallest) for _ in range(self.numbers)])

    def example(self, numbers: list[int]) -> Example:
        """The example for these numbers."""
        largest = 10**self.digits - 1
        sums = [
            _digits(total, len(str(i * largest)))
            for i, total in enumerate(accumulate(numbers), start=1)
        ]
        question = " + ".join(_digits(number, self.digits) for number in numbers)
        return Example(question, " ; ".join(sums[1:]), sums[-1])

    def prose(self, example: Example) -> Example:
        """With the digits in ordinary order, and each addition written out."""
        numbers = _numbers(example.question)
        if not numbers:
            return example
        sums = list(accumulate(numbers))
        steps = [
            f"{before} + {number} = {after}"
            for before, number, after in zip(sums, numbers[1:], sums[1:], strict=False)
        ]
        return Example(" + ".join(map(str, numbers)), ", ".join(steps), str(sums[-1]))

    def difficulty(self, example: Example) -> Mapping[str, float]:
        """How many digits of the running sums received a carry."""
        numbers = _numbers(example.question)
        if not numbers:
            return {}
        digit_sum = sum(int(d) for number in numbers for d in str(number))
        return {"carries": (digit_sum - sum(map(int, str(sum(numbers))))) // 9}


def _numbers(question: str) -> list[int]:
    """The numbers that are added; none if the text is not a sum in the format."""
    if QUESTION.fullmatch(question) is None:
        return []
    return [number_of([int(digit) for digit in text.split()]) for text in question.split("+")]


def _digits(number: int, width: int) -> str:
    return " ".join(reversed(str(number).zfill(width)))
