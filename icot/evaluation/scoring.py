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
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedTokenizerBase

from icot.data.staged import StagedExamples
from icot.evaluation.predictions import Prediction, WrongToken
from icot.inference.greedy import decode, without_end
from icot.inference.verification import Verified, verify
from icot.models.introspection import config_of
from icot.tasks.base import Task

Decode = Literal["verify", "always"]
CACHE_BYTES = 4 * 2**30  # of the keys and values of a batch that is decoded
Z95 = 1.959963984540054  # two-sided 95 % point of the normal distribution


class ExactMatch:
    """What ``correct`` among ``n`` examples says."""

    n: int
    correct: int

    @property
    def accuracy(self) -> float:
        """Exact match: the share of right ones."""
        return self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the exact match."""
        return wilson_interval(self.correct, self.n)


@dataclass(frozen=True)
class Evaluation(ExactMatch):
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
    batch_size: int = 500,
    how: Decode = "verify",
) -> Evaluation:
    """Score ``model``, a Hugging Face causal LM, on its device in evaluation mode.

    Dropout is off meanwhile; the mode the model was in is restored.

    Args:
        batch_size: examples decoded at once, fewer where their cache would not fit into
            ``CACHE_BYTES``.
        how: ``verify`` first, or decode ``always``; the texts are the same.
    """
    n = len(examples)
    prompts, targets = examples.as_tokens()
    batch_size = min(batch_size, _most_rows(model, examples))
    with _evaluation_mode(model):
        if how == "verify":
            verified = verify(model, examples)
            outputs = _outputs(model, examples, targets, verified.leading, batch_size)
        else:
            verified, outputs = _decode_all(model, examples, targets, batch_size)
    undecided = verified.leading < examples.target_lengths
    predictions = _predictions(examples, prompts, targets, outputs, task, tokenizer)
    return Evaluation(
        n=n,
        correct=sum(p.correct for p in predictions),
        tokens=int(examples.target_lengths.sum()),
        correct_tokens=int(verified.correct_tokens.sum()),
        nll=float(verified.nll.sum()),
        decoded=int(undecided.sum()),
        near_ties=int((verified.near_tie & undecided).sum()),
        predictions=predictions,
    )


def _most_rows(model: nn.Module, examples: StagedExamples) -> int:
    """How many rows' keys and values fit into ``CACHE_BYTES`` at the end of decoding."""
    config: Any = config_of(model)
    shared = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = config.hidden_size * shared // config.num_attention_heads
    length = int(examples.lengths.max() - examples.target_lengths.min()) + examples.longest_target
    of_a_token = 2 * config.num_hidden_layers * width * next(model.parameters()).element_size()
    return max(1, CACHE_BYTES // int(of_a_token * length))


def _decode_all(
    model: nn.Module, examples: StagedExamples, targets: list[list[int]], batch_size: int
) -> tuple[Verified, list[list[int]]]:
    """Every output, decoded from its first token on.

    Where it is the target, decoding has told the likelihood; the other targets take a pass.
    """
    n = len(examples)
    outputs: list[list[int]] = []
    found = Verified.nothing(n)
    for start in range(0, n, batch_size):
        index = np.arange(start, min(start + batch_size, n))
        decoded = decode(model, examples, index)
        outputs += decoded.tokens
        found.nll[index] = -decoded.log_probability.cpu()
    found.correct_tokens[:] = examples.target_lengths
    other = np.array([i for i in range(n) if outputs[i] != targets[i]], dtype=np.int64)
    if len(other):
        found.put(other, verify(model, examples.part(other), screen=False))
    found.leading[:], found.near_tie[:] = 0, False  # nothing was known before it was decoded
    return found, outputs


def _outputs(
    model: nn.Module,
    examples: StagedExamples,
    targets: list[list[int]],
    known: NDArray[np.int64],
    batch_size: int,
) -> list[list[int]]:
    """What greedy decoding writes for each example, ``known`` [n] tokens of its target to begin."""
    outputs = list(targets)
    lengths = examples.target_lengths
    rest = np.flatnonzero(known < lengths)
    rest = rest[np.argsort((examples.lengths - lengths + known)[rest], kind="stable")]
    for start in range(0, len(rest), batch_size):
        index = rest[start : start + batch_size]
        new = decode(model, examples, index, known[index]).tokens
        for i, written in zip(index.tolist(), new, strict=True):
            outputs[i] = targets[i][: known[i]] + written
    return outputs


def _predictions(
    examples: StagedExamples,
    prompts: list[list[int]],
    targets: list[list[int]],
    outputs: list[list[int]],
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
) -> list[Prediction]:
    eos = examples.eos_token_id
    questions = texts(tokenizer, prompts)
    expected = texts(tokenizer, [without_end(target, eos) for target in targets])
    found = list(expected)
    differs = [i for i in range(len(targets)) if outputs[i] != targets[i]]
    others = texts(tokenizer, [without_end(outputs[i], eos) for i in differs])
    for i, text in zip(differs, others, strict=True):
        found[i] = text
    predictions = []
    for i, output in enumerate(outputs):
        correct = output == targets[i] or task.is_correct(found[i], expected[i])
        predictions.append(
            Prediction(
                index=int(examples.rows[i]),
                question=questions[i],
                target=expected[i],
                prediction=found[i],
                correct=correct,
                tokens=len(output),
                first_wrong=None if correct else _first_wrong(targets[i], output, tokenizer),
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
