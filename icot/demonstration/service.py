"""What the page's buttons do; nothing of Gradio here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import gcd
from random import SystemRandom
from time import monotonic

from icot.demonstration.figures import Count, show_curve, show_tally
from icot.demonstration.layout import describe, show_columns
from icot.demonstration.questions import Questions, RefusedError
from icot.demonstration.race import answer_side_by_side
from icot.demonstration.writers import Shelf, Writer
from icot.errors import UserError

REDRAWN = 0.05  # seconds between two pictures of a race
Tally = dict[str, Count]  # by the writer's name
random = SystemRandom()


@dataclass(frozen=True)
class Service:
    """The models of a page, and the questions that they are asked.

    Attributes:
        runs: the writers of each run, at least one.
        questions: the kind of questions.
        shelf: holds the models.
        tally_of: random questions of one click.
    """

    runs: Sequence[Sequence[Writer]]
    questions: Questions
    shelf: Shelf
    tally_of: int

    @property
    def writers(self) -> list[Writer]:
        """Those of all runs."""
        return [writer for writers in self.runs for writer in writers]

    @property
    def longest(self) -> int:
        """Tokens of the longest chain."""
        return max(writer.longest for writer in self.writers)

    @property
    def step(self) -> int:
        """The steps in tokens between which no writer lies."""
        return gcd(self.longest, *(writer.left for writer in self.writers)) or 1

    def choose(self, left: float) -> list[Writer]:
        """The writers whose columns are shown if ``left`` of the longest chain are to be written.

        Of one run that with the whole chain, the nearest, and that with the least; of several the
        nearest of each.
        """
        share = left / self.longest if self.longest else 0.0
        nearest = [min(writers, key=lambda w: abs(w.share - share)) for writers in self.runs]
        if len(self.runs) > 1:
            return nearest
        ordered = sorted(self.runs[0], key=lambda w: -w.left)
        return list({w.name: w for w in (ordered[0], *nearest, ordered[-1])}.values())

    def first(self) -> list[str]:
        """A question to begin with, as it is typed."""
        writer = self.writers[0]
        return self.questions.type(next(iter(writer.held_out.values())), writer.task)

    def draw(self) -> list[str]:
        """A random held-out question, as it is typed."""
        writer = random.choice(self.writers)
        return self.questions.type(random.choice(list(writer.held_out.values())), writer.task)

    def answer(self, *values: str | float) -> Iterator[tuple[str, str, str]]:
        """A sentence, the columns and the curve, again and again while the models write.

        Args:
            values: what was typed into each field, and the tokens to write.
        """
        typed, left = [str(value) for value in values[:-1]], float(values[-1])
        writers = self.choose(left)
        curve = show_curve(self.runs, writers)
        try:
            question = self.questions.check(typed)
        except RefusedError as error:
            yield say(str(error)), "", curve
            return
        drawn = -REDRAWN
        for columns in answer_side_by_side(writers, self.questions, typed, self.shelf):
            if monotonic() - drawn > REDRAWN:
                yield "", show_columns(columns, question), curve
                drawn = monotonic()
        heard = f'<p class="unseen">{escape(describe(columns, question))}</p>'
        yield heard, show_columns(columns, question), curve

    def count(self, left: float, tally: Tally) -> Iterator[tuple[Tally, str, str]]:
        """The tally with random held-out questions added, as a table, and a sentence.

        All writers get the same questions if their tasks are the same.
        """
        tally, failed = dict(tally), ""
        places = [random.random() for _ in range(self.tally_of)]
        for writer in self.choose(left):
            try:
                ready = self.shelf.take(writer)
                found = ready.judge([int(place * len(ready.examples)) for place in places])
            except UserError as error:
                failed = say(f"{writer.name}: {error}")
                continue
            before = tally.get(writer.name, Count())
            tally[writer.name] = Count(
                before.asked + found.n,
                before.right + found.correct,
                before.tokens + sum(p.tokens or 0 for p in found.predictions),
            )
            yield tally, show_tally(tally), failed
        yield tally, show_tally(tally), failed


def say(text: str) -> str:
    """A sentence to the visitor, when something was refused."""
    return f'<p class="refusal">{escape(text)}</p>'
