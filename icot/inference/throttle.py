"""How many requests may be in flight: fewer when a server says that they are too many."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from threading import Condition, Event


class Throttle:
    """A limit that is halved at a refusal and rises again by one after a full round of answers.

    Args:
        most: requests at once.

    Attributes:
        limit: the present one.
    """

    def __init__(self, most: int) -> None:
        self.most = self.limit = most
        self._free = Condition()
        self._running = 0
        self._answers = 0
        self._numbers = count(1)
        self._halved_at = 0

    @contextmanager
    def slot(self, stopping: Event) -> Iterator[int]:
        """Wait for room, at most until ``stopping`` is set; yields the request's number."""
        with self._free:
            while self._running >= self.limit and not stopping.is_set():
                self._free.wait(0.1)
            self._running += 1
            number = next(self._numbers)
        try:
            yield number
        finally:
            with self._free:
                self._running -= 1
                self._free.notify()

    def halve(self, number: int) -> None:
        """The request ``number`` was refused; several begun before the last halving count once."""
        with self._free:
            if number > self._halved_at:
                self.limit = max(1, self.limit // 2)
                self._halved_at = next(self._numbers)
                self._answers = 0

    def widen(self) -> None:
        """A request was answered."""
        with self._free:
            self._answers += 1
            if self._answers >= self.limit and self.limit < self.most:
                self.limit += 1
                self._answers = 0
                self._free.notify()
