"""Scores of a predictor at a stage: exact match of answers, token accuracy, perplexity.

Exact match compares the answers in the predictor's texts. Token accuracy and perplexity are over
supervised tokens, each given all tokens before it, if the predictor knows them and the examples
have the chain that it writes. No smoothing offsets are drawn here.
"""

from dataclasses import dataclass, field
from itertools import zip_longest
from math import exp, inf, sqrt
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from icot.data.staged import StagedExamples
from icot.data.tokenized import detokenize
from icot.evaluation.predictions import Prediction, WrongToken
from icot.evaluation.votes import vote_figures
from icot.inference.greedy import without_end
from icot.inference.predictor import Predictor
from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Task

Number = TypeVar("Number", int, float)
Z95 = 1.959963984540054  # two-sided 95 % point of the normal distribution


class ExactMatch:
    """Exact match of ``correct`` among ``n`` examples."""

    n: int
    correct: int

    @property
    def accuracy(self) -> float:
        """Exact match: the share of correct answers."""
        return self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the exact match."""
        return wilson_interval(self.correct, self.n)


@dataclass(frozen=True)
class Evaluation(ExactMatch):
    """Counts over a set of examples; ``+`` adds up devices.

    Attributes:
        n, correct: examples, and those with the correct answer.
        tokens: supervised tokens.
        correct_tokens, nll: supervised tokens that are the most probable one, and the summed
            negative log-likelihood of all; None if unknown.
        decoded: examples that were decoded, entirely or in part.
        near_ties: examples decoded because a lead was within rounding, not because another token
            led.
        predictions: in the order of the split.
    """

    n: int = 0
    correct: int = 0
    tokens: int = 0
    correct_tokens: int | None = 0
    nll: float | None = 0.0
    decoded: int = 0
    near_ties: int = 0
    predictions: list[Prediction] = field(default_factory=list)
    votes: dict[str, Any] | None = None

    def __add__(self, other: "Evaluation") -> "Evaluation":
        return Evaluation(
            self.n + other.n,
            self.correct + other.correct,
            self.tokens + other.tokens,
            _add(self.correct_tokens, other.correct_tokens),
            _add(self.nll, other.nll),
            self.decoded + other.decoded,
            self.near_ties + other.near_ties,
            sorted([*self.predictions, *other.predictions], key=lambda p: p.index),
        )

    def accuracy_on_first(self, examples: int) -> float:
        """Exact match on those of the first so many examples of the split that were scored."""
        judged = [p.correct for p in self.predictions if p.index < examples]
        return sum(judged) / len(judged)

    @property
    def token_accuracy(self) -> float | None:
        """Share of supervised tokens that are the most probable one; None if unknown."""
        return None if self.correct_tokens is None else self.correct_tokens / self.tokens

    @property
    def perplexity(self) -> float | None:
        """Exponential of the mean negative log-likelihood per supervised token; None if unknown."""
        if self.nll is None:
            return None
        mean = self.nll / self.tokens
        return exp(mean) if mean < 700 else inf

    @property
    def tokens_per_example(self) -> float | None:
        """Mean number of tokens written, including separators; None if only texts are known."""
        counts = [p.tokens for p in self.predictions if p.tokens is not None]
        return sum(counts) / self.n if len(counts) == self.n else None


def _add(a: Number | None, b: Number | None) -> Number | None:
    return None if a is None or b is None else a + b


def wilson_interval(correct: int, n: int, z: float = Z95) -> tuple[float, float]:
    """The score interval of the share ``correct / n`` (Wilson 1927).

    Raises:
        ValueError: no examples.
    """
    if n < 1:
        raise ValueError("an interval needs at least one example")
    share = correct / n
    centre = share + z * z / (2 * n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At shares of 0 and 1, one end equals the share, except for rounding.
    return max(0.0, min(share, (centre - half) / scale)), min(
        1.0, max(share, (centre + half) / scale)
    )


def evaluate(
    predictor: Predictor,
    examples: StagedExamples,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
) -> Evaluation:
    """Score what ``predictor`` writes for ``examples``.

    Args:
        predictor: writes the outputs.
        examples: at their stage. A predictor that writes texts needs a store with texts (from
            ``tokenize_examples``), with nothing or everything removed.
        task: judges the answers.
        tokenizer: of the examples.
    """
    outputs = predictor.predict(examples)
    if outputs.tokens is not None:
        predictions = _judge_tokens(examples, outputs.tokens, task, tokenizer)
    else:
        assert outputs.texts is not None
        predictions = _judge_texts(examples, outputs.texts, task)
    counted, nll = outputs.correct_tokens, outputs.nll
    if examples.unknown_chain:  # an answer behind an empty chain is not what the model writes
        counted = nll = None
    return Evaluation(
        n=len(examples),
        correct=sum(p.correct for p in predictions),
        tokens=int(examples.target_lengths.sum()),
        correct_tokens=None if counted is None else int(counted.sum()),
        nll=None if nll is None else float(nll.sum()),
        decoded=outputs.decoded,
        near_ties=outputs.near_ties,
        predictions=predictions,
        votes=None
        if outputs.votes is None
        else vote_figures(outputs.votes, [p.target for p in predictions], task.is_correct),
    )


def _judge_tokens(
    examples: StagedExamples,
    outputs: list[list[int]],
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
) -> list[Prediction]:
    eos = examples.eos_token_id
    prompts, targets = examples.prompts_and_targets
    questions = detokenize(tokenizer, prompts)
    expected = detokenize(tokenizer, [without_end(target, eos) for target in targets])
    written = list(expected)
    differing = [i for i in range(len(targets)) if outputs[i] != targets[i]]
    texts = detokenize(tokenizer, [without_end(outputs[i], eos) for i in differing])
    for i, text in zip(differing, texts, strict=True):
        written[i] = text
    predictions = []
    for i, output in enumerate(outputs):
        correct = output == targets[i] or task.is_correct(written[i], expected[i])
        predictions.append(
            Prediction(
                index=int(examples.rows[i]),
                question=questions[i],
                target=expected[i],
                prediction=written[i],
                correct=correct,
                tokens=len(output),
                first_wrong=None if correct else _first_wrong(targets[i], output, tokenizer),
            )
        )
    return predictions


def _judge_texts(examples: StagedExamples, outputs: list[str], task: Task) -> list[Prediction]:
    predictions = []
    for row, example, text in zip(examples.rows, examples.texts, outputs, strict=True):
        target = f"{ANSWER_MARK} {example.answer}"
        if examples.tokens_removed == 0 and example.cot:
            target = f"{example.cot} {target}"
        correct = task.is_correct(text, target)
        predictions.append(Prediction(int(row), example.question, target, text, correct))
    return predictions


def _first_wrong(
    target: list[int], output: list[int], tokenizer: PreTrainedTokenizerBase
) -> WrongToken | None:
    for position, (expected, written) in enumerate(zip_longest(target, output)):
        if expected != written:
            names = ("" if t is None else str(tokenizer.decode([t])) for t in (expected, written))
            return WrongToken(position, *names)
    return None
