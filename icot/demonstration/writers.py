"""What writes the answers of a page: models at a stage or with a budget, loaded when asked.

Writer("stage 2", left=12, longest=24, ...)     known from the start
Shelf(keep=4).take(writer)                      -> Ready, with its weights in memory
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from torch import nn
from transformers import PreTrainedTokenizerBase

from icot.data.staged import StagedExamples
from icot.data.tokenized import detokenize, tokenize_examples
from icot.errors import DataError
from icot.evaluation.scoring import Evaluation, evaluate
from icot.inference.answering import positions_for, tokenize_questions
from icot.inference.greedy import Prompts, without_end
from icot.inference.predictor import Predictor, Streaming
from icot.tasks.base import Example, Task

MOST_REFUSED = 20  # held-out questions, after which a writer begins without having answered one
FIRST = np.array([0])  # the index of the only example of a store


@dataclass(frozen=True)
class Accuracy:
    """Exact match as it was measured, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Ready:
    """A writer with its weights in memory.

    Attributes:
        predictor: writes the answers, as in ``icot.evaluate``.
        examples: the held-out ones at the writer's stage.
        tokenizer: of the examples.
        task: judges the answers.
    """

    predictor: Predictor
    examples: StagedExamples
    tokenizer: PreTrainedTokenizerBase
    task: Task

    def stage(self, example: Example) -> StagedExamples:
        """An example whose chain is known, at the writer's stage."""
        return replace(
            self.examples,
            store=tokenize_examples([example], self.tokenizer),
            rows=FIRST,
            max_new_tokens=self.examples.longest_target,
            separators=1 if self.examples.has_one_separator else 2,
        )

    def target(self, example: Example) -> str:
        """The correct output for an example whose chain is known."""
        (tokens,) = self.stage(example).prompts_and_targets[1]
        return self.text(tokens)

    def write(self, example: Example) -> Iterator[int]:
        """The tokens of the output, each as soon as it is there.

        A predictor that cannot stream writes all of them at once.

        Raises:
            UserError: the question cannot be asked.
        """
        if isinstance(self.predictor, Streaming):
            prompt = self._prompt(example, self.predictor.model)
            limit, eos = self.examples.longest_target, self.examples.eos_token_id
            return self.predictor.stream(prompt, limit, eos)
        if not example.answer:
            raise DataError("This model answers only questions of its held-out split.")
        return iter((self.predictor.decode(self.stage(example), FIRST).tokens or [[]])[0])

    def _prompt(self, example: Example, model: nn.Module) -> Prompts:
        of = self.stage(example) if example.answer else self.examples
        one = self.examples.has_one_separator
        jump = of.tokens_removed + one if of.keep_position_ids else 0
        told = of.keep_position_ids == "from_separator"
        fillers = of.filler.counts(of.tokens_removed)
        rows = tokenize_questions([example.question], self.tokenizer, fillers)
        positions_for(model, len(rows[0]) + jump * told)
        self._check_symbols(rows[0])
        if not example.answer:
            return Prompts.of_questions(rows, of.eos_token_id, jump, of.side, told, one, fillers)
        batch = of.batch(FIRST)
        return Prompts.of(batch, of.eos_token_id, batch.lengths.new_zeros(1), of.side)

    def text(self, tokens: list[int]) -> str:
        """The text of an output, without its separators."""
        eos = self.examples.eos_token_id
        return detokenize(self.tokenizer, [without_end(tokens, eos)])[0]

    def judge(self, index: Sequence[int]) -> Evaluation:
        """The scores of held-out examples."""
        part = self.examples.part(np.array(index))
        return evaluate(self.predictor, part, self.task, self.tokenizer)

    def _check_symbols(self, tokens: list[int]) -> None:
        unknown = self.tokenizer.unk_token_id
        if unknown is not None and unknown != self.examples.eos_token_id and unknown in tokens:
            known = self.task.symbols()
            which = f": {' '.join(known)}" if known else ""
            raise DataError(f"The question has symbols that this model does not know{which}.")


@dataclass(frozen=True)
class Writer:
    """A model at a stage or with a budget; its answers are a column of the page.

    Attributes:
        run: a name of its run that no other run of the page has.
        title: of the column, within the run.
        left: tokens of the longest chain that it writes.
        longest: tokens of that chain.
        accuracy: as measured; None if it was not.
        task: of the questions.
        held_out: examples to draw from, in the order of the held-out split.
        weights: names the weights, which writers may share.
        load: reads the weights.
        prepare: makes them ready to write at this writer's stage.
    """

    run: str
    title: str
    left: int
    longest: int
    accuracy: Accuracy | None
    task: Task
    held_out: Mapping[str, Example]
    weights: str
    load: Callable[[], Any]
    prepare: Callable[[Any], Ready]

    @property
    def name(self) -> str:
        """A name within the page."""
        return f"{self.run}, {self.title}"

    @property
    def share(self) -> float:
        """The share of the chain that it writes."""
        return self.left / self.longest if self.longest else 0.0


class Shelf:
    """Weights in memory, those used last; one visitor's question is answered at a time.

    Args:
        keep: how many to keep.
    """

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self._loaded: OrderedDict[str, Any] = OrderedDict()
        self._warm: set[str] = set()

    def take(self, writer: Writer) -> Ready:
        """The writer, loaded if it was not.

        Raises:
            UserError: it cannot be loaded.
        """
        if writer.weights not in self._loaded:
            while len(self._loaded) >= self.keep:
                self._warm.discard(self._loaded.popitem(last=False)[0])
            self._loaded[writer.weights] = writer.load()
        self._loaded.move_to_end(writer.weights)
        ready = writer.prepare(self._loaded[writer.weights])
        if writer.weights not in self._warm:  # the first answer is slow, and unseen
            _answer_one(ready, islice(writer.held_out.values(), MOST_REFUSED))
            self._warm.add(writer.weights)
        return ready


def _answer_one(ready: Ready, examples: Iterable[Example]) -> None:
    """Answer the first example that is not refused: a held-out one may have an unknown word."""
    for example in examples:
        with suppress(DataError):
            for _ in ready.write(example):
                pass
            return
