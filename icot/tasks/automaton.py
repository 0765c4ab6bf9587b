"""Words read by a finite automaton or multiplied in a group (arXiv 2210.10749).

The symmetric group S3, a word of three letters:

    213 231 213||213 321 312 #### 312

The chain is the state after each letter; the last one is the answer. In a group the letters are its
elements, and the state is the product of those read so far. The machines:

- ``cyclic``: numbers modulo ``size``, added.
- ``s3``, ``s5``: permutations of 3 and 5 things, 6 and 120 of them. 231 sends 1 to 2, 2 to 3 and 3
  to 1; a letter acts after the state. S5 is not solvable: as far as anyone knows, its words cannot
  be multiplied in constant depth.
- ``flip_flop``: 0 and 1 set the state, - leaves it. It starts at 0.
- ``grid``: ``size`` cells in a row with a wall at each end, numbered from 0; < and > move by a
  cell, and at a wall not at all. It starts at 0.
"""

from collections.abc import Callable, Mapping
from itertools import accumulate, permutations
from random import Random
from typing import Literal, get_args

from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Example
from icot.tasks.generated import GeneratedTask

Machine = Literal["cyclic", "s3", "s5", "flip_flop", "grid"]
SIZED = ("cyclic", "grid")  # the machines that have a size
SIZE = 5


class Automaton(GeneratedTask):
    """Words of letters drawn uniformly, and the states that a machine passes through.

    Args:
        machine: one of the five above.
        length: letters of a word.
        min_length: of the shortest words; None is ``length``. Each length is drawn equally often.
        size: of ``cyclic`` (elements) and ``grid`` (cells), 5 if it is None.
        train_size, valid_size, test_size: examples of each split (``icot.tasks.generated``).
        seed: of the words.

    Raises:
        ValueError: no such machine, or it has no words of this kind.
    """

    def __init__(
        self,
        machine: Machine = "s3",
        length: int = 12,
        min_length: int | None = None,
        size: int | None = None,
        train_size: int | None = None,
        valid_size: int | None = None,
        test_size: int | None = None,
        seed: int = 3456,
    ) -> None:
        if machine not in get_args(Machine):
            raise ValueError(f"machine must be one of {', '.join(get_args(Machine))}")
        if size is not None and machine not in SIZED:
            raise ValueError(f"size is of {' and '.join(SIZED)}; {machine} has none")
        shortest = length if min_length is None else min_length
        if not 1 <= shortest <= length:
            raise ValueError(f"min_length must be from 1 to the length, {length}, not {shortest}")
        size = size or SIZE
        if size < 2:
            raise ValueError(f"size must be at least 2, not {size}")
        self.name = f"{machine}{size if machine in SIZED else ''}-{length}"
        self.lengths = range(shortest, length + 1)
        self.letters, self.states, self.step, self.start = _machine(machine, size)
        parameters = {"machine": machine, "size": size, "lengths": [shortest, length]}
        questions = sum(len(self.letters) ** n for n in self.lengths)
        super().__init__(parameters, questions, train_size, valid_size, test_size, seed)

    def symbols(self) -> tuple[str, ...]:
        """The letters, the states and the answer mark."""
        return (*dict.fromkeys([*self.letters, *self.states]), ANSWER_MARK)

    def draw(self, rng: Random) -> Example:
        """One example."""
        return self.example(rng.choices(self.letters, k=rng.choice(self.lengths)))

    def example(self, word: list[str]) -> Example:
        """The example for a word."""
        states = list(accumulate(word, self.step, initial=self.start))[1:]
        return Example(" ".join(word), " ".join(states), states[-1])

    def difficulty(self, example: Example) -> Mapping[str, float]:
        """The length of the word."""
        word = self._word(example.question)
        return {"letters": len(word)} if word else {}

    def quantities(self, example: Example) -> Mapping[str, str]:
        """The state after each letter."""
        states = accumulate(self._word(example.question), self.step, initial=self.start)
        return {f"state {i}": state for i, state in enumerate(states) if i}

    def _word(self, question: str) -> list[str]:
        """The letters; none if the text has others."""
        word = question.split()
        return word if set(word) <= set(self.letters) else []


def _machine(
    machine: Machine, size: int
) -> tuple[list[str], list[str], Callable[[str, str], str], str]:
    """Letters, states, the state after a letter, and the first state."""
    numbers = [str(i) for i in range(size)]
    if machine == "cyclic":
        return numbers, numbers, lambda state, letter: str((int(state) + int(letter)) % size), "0"
    if machine == "flip_flop":
        return ["0", "1", "-"], ["0", "1"], lambda s, letter: s if letter == "-" else letter, "0"
    if machine == "grid":
        moves = {"<": -1, ">": 1}
        return (
            list(moves),
            numbers,
            lambda state, letter: str(min(max(int(state) + moves[letter], 0), size - 1)),
            "0",
        )
    things = "123" if machine == "s3" else "12345"
    elements = ["".join(p) for p in permutations(things)]
    return elements, elements, lambda s, letter: "".join(letter[int(i) - 1] for i in s), things
