"""Several writers answer one question side by side, a token each in turn.

The time of a writer is the time that its own tokens took, so turns are fair and cost nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

from icot.demonstration.questions import Questions
from icot.demonstration.writers import Ready, Shelf, Writer
from icot.errors import UserError
from icot.tasks.base import Example

Key = TypeVar("Key")


@dataclass
class Column:
    """What a writer has written so far.

    Attributes:
        writer: who writes.
        asked: the example; without an answer where nobody knows it.
        target: the correct output; "" where nobody knows it.
        refusal: a sentence, if the writer does not answer.
        tokens: written so far, separators included.
        text: of them, without separators.
        seconds, first: of decoding so far, and to the first token.
        done: whether it has ended.
        correct: whether the answer is right; None before the end, or if nobody knows.
    """

    writer: Writer
    asked: Example | None = None
    target: str = ""
    refusal: str = ""
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    seconds: float = 0.0
    first: float = 0.0
    done: bool = False
    correct: bool | None = None


def take_turns(streams: Mapping[Key, Iterator[int]]) -> Iterator[tuple[Key, int | None, float]]:
    """The tokens of all streams in turns: whose, the token or None at its end, seconds it took."""
    going = dict(streams)
    while going:
        for key, stream in list(going.items()):
            begun = perf_counter()
            token = next(stream, None)
            yield key, token, perf_counter() - begun
            if token is None:
                del going[key]


def answer_side_by_side(
    writers: Sequence[Writer], questions: Questions, typed: Sequence[str], shelf: Shelf
) -> Iterator[list[Column]]:
    """The columns, after each token; the same objects each time.

    Writers whose weights the shelf cannot hold together answer one group after the other. The
    iterator may be left at any time; what it holds is then freed.
    """
    columns = [Column(writer) for writer in writers]
    yield columns
    for group in _groups(columns, shelf.keep):
        ready: dict[int, Ready] = {}
        streams: dict[int, Iterator[int]] = {}
        for i in group:
            column = columns[i]
            try:
                known = column.writer.held_out
                column.asked = questions.example(typed, column.writer.task, known)
                ready[i] = shelf.take(column.writer)
                streams[i] = ready[i].write(column.asked)
                if column.asked.answer:
                    column.target = ready[i].target(column.asked)
            except UserError as error:
                column.refusal, column.done = str(error), True
        for i, token, seconds in take_turns(streams):
            _add(columns[i], ready[i], token, seconds)
            yield columns
    yield columns


def _add(column: Column, ready: Ready, token: int | None, seconds: float) -> None:
    column.seconds += seconds
    if token is None:
        column.done = True
        if column.target:
            column.correct = ready.task.is_correct(column.text, column.target)
        return
    column.first = column.first or column.seconds
    column.tokens.append(token)
    column.text = ready.text(column.tokens)


def _groups(columns: Sequence[Column], keep: int) -> list[list[int]]:
    """The columns in groups of at most ``keep`` different weights."""
    groups: list[list[int]] = []
    held: set[str] = set()
    for i, column in enumerate(columns):
        if not groups or len(held | {column.writer.weights}) > keep:
            groups.append([])
            held = set()
        held.add(column.writer.weights)
        groups[-1].append(i)
    return groups
