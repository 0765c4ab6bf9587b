"""Parity of hidden positions: is the number of ones among them odd? (arXiv 2605.28600)

With 6 bits of which positions 1, 2 and 5 (counted from 0) count:

    1 0 1 1 0 1||0 1 0 #### 0

The chain is the running parity, a symbol for each hidden position from the left; the last of them
is the answer. Which positions count is the same in all questions, and written nowhere.
"""

from collections.abc import Mapping
from itertools import accumulate
from operator import xor
from random import Random

from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Example
from icot.tasks.generated import GeneratedTask


class Parity(GeneratedTask):
    """Bits drawn uniformly, some of which count.

    Args:
        bits: of a question, without the distractors.
        hidden: how many of the bits count, drawn by the seed; None is all of them.
        distractors: more bits behind them, none of which counts. With them a question is longer and
            the hidden positions stay where they are.
        train_size, valid_size, test_size: examples of each split (``icot.tasks.generated``).
        seed: of the hidden positions and the questions.

    Attributes:
        positions: those that count, counted from 0.
        all_count: whether all bits count, in questions of any length.
    """

    def __init__(
        self,
        bits: int = 16,
        hidden: int | None = None,
        distractors: int = 0,
        train_size: int | None = None,
        valid_size: int | None = None,
        test_size: int | None = None,
        seed: int = 3456,
    ) -> None:
        count = bits if hidden is None else hidden
        if not 1 <= count <= bits:
            raise ValueError(f"hidden must be from 1 to the number of bits, {bits}, not {count}")
        self.name = f"parity{bits}" if hidden is None else f"parity{hidden}of{bits}"
        self.width = bits + distractors
        self.all_count = count == self.width
        self.positions = sorted(Random(f"hidden {seed}").sample(range(bits), count))
        parameters = {"bits": bits, "hidden": count, "distractors": distractors}
        super().__init__(parameters, 2**self.width, train_size, valid_size, test_size, seed)

    def symbols(self) -> tuple[str, ...]:
        """The bits and the answer mark."""
        return ("0", "1", ANSWER_MARK)

    def draw(self, rng: Random) -> Example:
        """One example."""
        return self.example([rng.getrandbits(1) for _ in range(self.width)])

    def example(self, bits: list[int]) -> Example:
        """The example for these bits."""
        parities = [str(p) for p in accumulate((bits[i] for i in self.positions), xor)]
        return Example(" ".join(map(str, bits)), " ".join(parities), parities[-1])

    def difficulty(self, example: Example) -> Mapping[str, float]:
        """How many of the hidden bits are one."""
        bits = self._hidden_bits(example.question)
        return {"ones": sum(bits)} if bits else {}

    def quantities(self, example: Example) -> Mapping[str, int]:
        """The parity of the bits that count, up to each of them; bits are counted from 1."""
        parities = accumulate(self._hidden_bits(example.question), xor)
        return {f"parity {i + 1}": p for i, p in zip(self.positions, parities, strict=False)}

    def _hidden_bits(self, question: str) -> list[int]:
        """The bits that count; none if the text is not of this many bits."""
        bits = question.split()
        if len(bits) != self.width or not set(bits) <= {"0", "1"}:
            return []
        return [int(bits[i]) for i in self.positions]
