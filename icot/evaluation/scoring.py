"""How good a model is at a stage: exact match of answers, token accuracy, perplexity.

Exact match is over the answers of greedily decoded texts; token accuracy and perplexity are over
the supervised tokens with everything before them given. No offsets are drawn here.

A target that greedy decoding is sure to write (``icot.evaluation.verification``) is not decoded,
and another one only from its first token on that is not sure.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from math import exp, inf, sqrt
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedTokenizerBase

from icot.data.staged import StagedExamples
from icot.evaluation.decoding import decode, without_end
from icot.evaluation.verification import verify
from icot.tasks.base import Task
from icot.tasks.predictions import Prediction, WrongToken

Decode = Literal["verify", "always"]
CHUNK = 4096  # rows that are made into texts at once
Z95 = 1.959963984540054  # two-sided 95 % point of the normal distribution


@dataclass(frozen=True)
class Evaluation:
    """Counts over a set of examples; they add up over devices.

    Attributes:
        n, correct: examples, and those with the right answer.
        tokens, correct_tokens, nll: supervised tokens, those that are the most probable one, and
            their summed negative log-likelihood.
        decoded: examples that were decoded, wholly or from some token on.
        near_ties: examples decoded because of a lead within rounding, not of another token.
        predictions: in the order of the split.
    """

    n: int = 0
    correct: int = 0
    tokens: int = 0
    correct_tokens: int = 0
    nll: float = 0.0
    decoded: int = 0
    near_ties: int = 0
    predictions: list[Prediction] = field(default_factory=list)

    def __add__(self, other: "Evaluation") -> "Evaluation":
        return Evaluation(
            self.n + other.n,
            self.correct + other.correct,
            self.tokens + other.tokens,
            self.correct_tokens + other.correct_tokens,
            self.nll + other.nll,
            self.decoded + other.decoded,
            self.near_ties + other.near_ties,
            sorted([*self.predictions, *other.predictions], key=lambda p: p.index),
        )

    @property
    def accuracy(self) -> float:
        """Exact match."""
        return self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the exact match."""
        return wilson_interval(self.correct, self.n)

    @property
    def token_accuracy(self) -> float:
        """Share of supervised tokens that are the most probable one."""
        return self.correct_tokens / self.tokens

    @property
    def perplexity(self) -> float:
        """Exponential of the mean negative log-likelihood of a supervised token."""
        mean = self.nll / self.tokens
        return exp(mean) if mean < 700 else inf

    @property
    def tokens_per_example(self) -> float:
        """Mean number of tokens written, separators counted."""
        return sum(p.tokens or 0 for p in self.predictions) / self.n


def wilson_interval(correct: int, n: int, z: float = Z95) -> tuple[float, float]:
    """The score interval of a share of ``correct`` among ``n`` (Wilson 1927).

    Raises:
        ValueError: no examples.
    """
    if n < 1:
        raise ValueError("an interval needs at least one example")
    share = correct / n
    centre = share + z * z / (2 * n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At shares of 0 and 1 an end is the share itself, but for rounding.
    return max(0.0, min(share, (centre - half) / scale)), min(
        1.0, max(share, (centre + half) / scale)
    )


@torch.no_grad()
def evaluate(
    model: nn.Module,
    examples: StagedExamples,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int = 250,
    how: Decode = "verify",
) -> Evaluation:
    """Score ``model``, a Hugging Face causal LM, on its device in evaluation mode.

    Dropout is off meanwhile; the mode the model was in is restored.

    Args:
        batch_size: examples decoded at once.
        how: ``verify`` first, or decode ``always``; the texts are the same.
    """
    n = len(examples)
    with _evaluation_mode(model):
        verified = verify(model, examples, screen=how == "verify")
        known = verified.leading if how == "verify" else np.zeros_like(verified.leading)
        undecided = known < examples.target_lengths
        near_ties = int((verified.near_tie & undecided).sum()) if how == "verify" else 0
        outputs = _outputs(model, examples, known, batch_size)
    predictions = _predictions(examples, outputs, undecided, task, tokenizer)
    return Evaluation(
        n=n,
        correct=sum(p.correct for p in predictions),
        tokens=int(examples.target_lengths.sum()),
        correct_tokens=int(verified.correct_tokens.sum()),
        nll=float(verified.nll.sum()),
        decoded=int(undecided.sum()),
        near_ties=near_ties,
        predictions=predictions,
    )


def _outputs(
    model: nn.Module, examples: StagedExamples, known: NDArray[np.int64], batch_size: int
) -> list[list[int]]:
    """What greedy decoding writes for each example, ``known`` [n] tokens of its target to begin."""
    outputs: list[list[int]] = [[]] * len(examples)
    lengths = examples.target_lengths
    whole = np.flatnonzero(known >= lengths)
    for start in range(0, len(whole), CHUNK):
        index = whole[start : start + CHUNK]
        _, targets = _questions_and_targets(examples, index)
        for i, target in zip(index.tolist(), targets, strict=True):
            outputs[i] = target
    rest = np.flatnonzero(known < lengths)
    rest = rest[np.argsort((examples.lengths - lengths + known)[rest], kind="stable")]
    for start in range(0, len(rest), batch_size):
        index = rest[start : start + batch_size]
        new = decode(model, examples, index, known[index])
        _, targets = _questions_and_targets(examples, index)
        for i, target, written in zip(index.tolist(), targets, new, strict=True):
            outputs[i] = target[: known[i]] + written
    return outputs


def _questions_and_targets(
    examples: StagedExamples, index: NDArray[np.int64]
) -> tuple[list[list[int]], list[list[int]]]:
    """Tokens of the questions without their separator, and of the correct outputs to their end."""
    batch = examples.batch(index)
    rows = batch.input_ids.tolist()
    spans = list(zip(rows, batch.cot_start.tolist(), batch.lengths.tolist(), strict=True))
    return [row[: start - 1] for row, start, _ in spans], [row[s:e] for row, s, e in spans]


def _predictions(
    examples: StagedExamples,
    outputs: list[list[int]],
    undecided: NDArray[np.bool_],
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
) -> list[Prediction]:
    eos = examples.eos_token_id
    predictions: list[Prediction] = []
    for start in range(0, len(examples), CHUNK):
        index = np.arange(start, min(start + CHUNK, len(examples)))
        asked, targets = _questions_and_targets(examples, index)
        written = outputs[start : start + CHUNK]
        questions = texts(tokenizer, asked)
        expected = texts(tokenizer, [without_end(target, eos) for target in targets])
        found = texts(tokenizer, [without_end(output, eos) for output in written])
        for i, n in enumerate(index):
            correct = not undecided[n] or task.is_correct(found[i], expected[i])
            wrong = None if correct else _first_wrong(targets[i], written[i], tokenizer)
            predictions.append(
                Prediction(
                    index=int(examples.rows[n]),
                    question=questions[i],
                    target=expected[i],
                    prediction=found[i],
                    correct=correct,
                    tokens=len(written[i]),
                    first_wrong=wrong,
                )
            )
    return predictions


def _first_wrong(
    target: list[int], output: list[int], tokenizer: PreTrainedTokenizerBase
) -> WrongToken | None:
    for position, (expected, written) in enumerate(zip_longest(target, output)):
        if expected != written:
            names = ("" if t is None else str(tokenizer.decode([t])) for t in (expected, written))
            return WrongToken(position, *names)
    return None


def texts(tokenizer: PreTrainedTokenizerBase, rows: list[list[int]]) -> list[str]:
    """Tokens as texts without separators, single blanks between the parts; one batched call."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoded: list[str]
    if backend is not None:
        decoded = backend.decode_batch(rows, skip_special_tokens=True)
    else:
        decoded = [str(tokenizer.decode(row, skip_special_tokens=True)) for row in rows]
    return [" ".join(text.split()) for text in decoded]


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
