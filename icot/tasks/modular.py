"""Nested expressions modulo a small number (after "Arithmetic" of arXiv 2305.15408).

Modulo 7:

    ( 3 + 4 ) * ( 6 - ( 2 * 5 ) )||0 3 3 0 #### 0

The chain has the value of each operation, an operation after those inside it and the left side
before the right; the last of them is the answer. All values are from 0 to the modulus less 1.
"""

from collections.abc import Mapping
from random import Random

from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Example
from icot.tasks.generated import GeneratedTask

OPERATIONS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}


class Modular(GeneratedTask):
    """Expressions of random shape.

    Args:
        operations: of an expression.
        modulus: of all values, at least 2.
        train_size, valid_size, test_size: examples of each split (``icot.tasks.generated``).
        seed: of the expressions.

    Raises:
        ValueError: operations or modulus are too small.
    """

    def __init__(
        self,
        operations: int = 6,
        modulus: int = 7,
        train_size: int | None = None,
        valid_size: int | None = None,
        test_size: int | None = None,
        seed: int = 3456,
    ) -> None:
        if operations < 1 or modulus < 2:
            raise ValueError("operations must be at least 1 and modulus at least 2")
        self.name = f"modular{modulus}-{operations}"
        self.operations, self.modulus = operations, modulus
        parameters = {"operations": operations, "modulus": modulus}
        questions = (
            _shapes(operations) * len(OPERATIONS) ** operations * modulus ** (operations + 1)
        )
        super().__init__(parameters, questions, train_size, valid_size, test_size, seed)

    def symbols(self) -> tuple[str, ...]:
        """The values, the operations, brackets and the answer mark."""
        return (*map(str, range(self.modulus)), *OPERATIONS, "(", ")", ANSWER_MARK)

    def draw(self, rng: Random) -> Example:
        """One example."""
        values: list[int] = []
        question, answer = self._expression(rng, self.operations, values)
        return Example(question, " ".join(map(str, values)), str(answer))

    def _expression(self, rng: Random, operations: int, values: list[int]) -> tuple[str, int]:
        """An expression with so many operations, and its value; ``values`` grows by the chain."""
        if operations == 0:
            number = rng.randrange(self.modulus)
            return str(number), number
        on_the_left = rng.randrange(operations)
        sides = (on_the_left, operations - 1 - on_the_left)
        (left, x), (right, y) = [self._expression(rng, n, values) for n in sides]
        sign = rng.choice(list(OPERATIONS))
        values.append(OPERATIONS[sign](x, y) % self.modulus)
        texts = [f"( {text} )" if n else text for text, n in zip((left, right), sides, strict=True)]
        return f"{texts[0]} {sign} {texts[1]}", values[-1]

    def difficulty(self, example: Example) -> Mapping[str, float]:
        """How deep the brackets are nested."""
        symbols = example.question.split()
        if not symbols or not set(symbols) <= set(self.symbols()):
            return {}
        depth = deepest = 0
        for symbol in symbols:
            depth += (symbol == "(") - (symbol == ")")
            deepest = max(deepest, depth)
        return {"depth": deepest}


def _shapes(operations: int) -> int:
    """The number of binary trees with so many inner nodes (Catalan numbers)."""
    count = 1
    for n in range(operations):
        count = count * 2 * (2 * n + 1) // (n + 2)
    return count
