"""Tasks whose examples a program draws: seeded, and no question stands in two splits.

A task says how one example is drawn. All splits come from one stream of different questions, in
the order valid, test, train. So the held-out splits do not depend on the size of the training
split, and a larger training split begins with a smaller one.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from itertools import islice
from random import Random
from typing import Any

from icot.errors import DataError
from icot.tasks.base import Example, Split, Task

TRAIN_SIZE, HELD_OUT_SIZE = 100_000, 1_000
CHUNK = 20_000
PATIENCE = 1_000_000  # draws in a row that may give no new question
ORDER: tuple[Split, ...] = ("valid", "test", "train")


class GeneratedTask(Task):
    """Different questions, drawn one after another.

    Args:
        parameters: what determines an example, apart from the seed.
        questions: how many different ones there are; None is more than anyone asks for.
        train_size, valid_size, test_size: examples of each split; None is 100,000, 1,000 and 1,000,
            or, where there are too few questions, a tenth of them for each held-out split and the
            rest for training.
        seed: of the draws.

    Raises:
        ValueError: there are not so many questions.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        questions: int | None,
        train_size: int | None,
        valid_size: int | None,
        test_size: int | None,
        seed: int,
    ) -> None:
        self.parameters, self.seed = dict(parameters), seed
        held_out = HELD_OUT_SIZE if questions is None else min(HELD_OUT_SIZE, questions // 10)
        valid = held_out if valid_size is None else valid_size
        test = held_out if test_size is None else test_size
        left = TRAIN_SIZE if questions is None else questions - valid - test
        train = min(TRAIN_SIZE, left) if train_size is None else train_size
        if min(train, valid, test) < 0 or (questions is not None and train > left):
            raise ValueError(
                f"there are {questions} different questions; train {train}, valid {valid} and "
                f"test {test} do not fit into them"
            )
        self._sizes: dict[Split, int] = {"train": train, "valid": valid, "test": test}

    @abstractmethod
    def draw(self, rng: Random) -> Example:
        """One example; the question may be one that was drawn before."""

    def size(self, split: Split) -> int:
        """The number of examples in ``split``."""
        return self._sizes[split]

    def fingerprint(self, split: Split) -> Mapping[str, Any]:
        """Parameters, seed and sizes: they determine every line."""
        return {
            "task": type(self).__name__,
            "version": 1,
            **self.parameters,
            "seed": self.seed,
            "sizes": [self._sizes[s] for s in ORDER],
            "split": split,
        }

    def chunks(self, split: Split) -> Iterator[list[Example]]:
        """The examples of ``split``, 20,000 at a time."""
        begin = sum(self._sizes[s] for s in ORDER[: ORDER.index(split)])
        examples = islice(self._different(), begin, begin + self._sizes[split])
        while part := list(islice(examples, CHUNK)):
            yield part

    def _different(self) -> Iterator[Example]:
        """Examples without end, no question twice."""
        rng, seen, repeated = Random(self.seed), set[str](), 0
        while repeated < PATIENCE:
            example = self.draw(rng)
            if example.question in seen:
                repeated += 1
                continue
            seen.add(example.question)
            repeated = 0
            yield example
        raise DataError(
            f"task {self.name}: found only {len(seen):,} different questions. Set smaller "
            "task.train_size, task.valid_size and task.test_size, or a larger task."
        )
