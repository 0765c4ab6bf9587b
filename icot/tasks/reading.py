"""Tasks whose examples are read, so that some of them may be bad."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Literal

from icot.errors import DataError
from icot.tasks.base import Example, Split, Task

CHUNK = 20_000
OnBadLine = Literal["raise", "skip"]


class ReadTask(Task):
    """Yields good examples; a bad one is an error, or is skipped and counted.

    Args:
        sizes: the number of good examples to use of each split, from the start; None is all.
        on_bad_line: ``raise`` or ``skip``.
    """

    def __init__(self, sizes: Mapping[Split, int | None], on_bad_line: OnBadLine) -> None:
        self.sizes, self.on_bad_line = dict(sizes), on_bad_line
        self._skipped: dict[Split, int] = {}

    @abstractmethod
    def read(self, split: Split) -> Iterator[Example | None]:
        """All examples of ``split``, None for each bad one that is skipped."""

    def refuse(self, where: str, error: ValueError, advice: str) -> None:
        """Treat a bad line as ``on_bad_line`` says.

        Raises:
            DataError: ``on_bad_line`` is ``raise``.
        """
        if self.on_bad_line == "raise":
            raise DataError(f"{where}: {error}. {advice}") from None

    def chunks(self, split: Split) -> Iterator[list[Example]]:
        """The good examples of ``split``, 20,000 at a time."""
        return self.in_chunks(split, self.read(split))

    def in_chunks(
        self, split: Split, examples: Iterator[Example | None]
    ) -> Iterator[list[Example]]:
        """The same of examples that have been read in another way."""
        self._skipped[split] = 0
        good = islice(self._good(split, examples), self.sizes[split])
        while part := list(islice(good, CHUNK)):
            yield part

    def _good(self, split: Split, examples: Iterator[Example | None]) -> Iterator[Example]:
        for example in examples:
            if example is None:
                self._skipped[split] += 1
            else:
                yield example

    def leaves_out(self, split: Split, example: Example) -> bool:
        """Such an example counts as a bad one."""
        if self.on_bad_line == "skip":
            self._skipped[split] = self.skipped(split) + 1
        return self.on_bad_line == "skip"

    def skipped(self, split: Split) -> int:
        """The number of bad examples skipped when ``split`` was last read."""
        return self._skipped.get(split, 0)
