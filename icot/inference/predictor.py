"""What turns examples into outputs: a ``Predictor``, and the greedy one.

Validation, evaluation, speed, benchmarks and export ask a predictor and know nothing else of a
method. A predictor may decode greedily, sample, vote over another one's samples, run two models one
after the other, or ask a server.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedTokenizerBase

from icot.data.staged import StagedExamples
from icot.inference.answering import answer
from icot.inference.greedy import (
    Prompts,
    decode,
    evaluation_mode,
    most_probable,
    rows_per_cache,
    write_tokens,
)
from icot.inference.verification import Verified, verify
from icot.models.introspection import config_of, device_of
from icot.models.positions import learned_positions
from icot.removal import KeepIds, Side

Decode = Literal["verify", "always"]


@dataclass(frozen=True)
class Vote:
    """One of several outputs for an example.

    Attributes:
        answer: as the task extracts it; None if it has none.
        logprob: log-probability of the whole output.
    """

    answer: str | None
    logprob: float


@dataclass(frozen=True)
class Outputs:
    """What a predictor wrote for n examples, as tokens or as texts.

    Attributes:
        tokens: n lists of tokens, each up to and with its end; None where the predictor writes
            texts.
        texts: n texts, of a predictor that knows no tokens of ours, such as a server; else None.
        nll: [n] negative log-likelihood of each whole target; None where it is not known.
        correct_tokens: [n] tokens of each target that are the most probable one, given all before
            them; None where it is not known.
        decoded: examples that were decoded, wholly or from some token on.
        votes: [n] the votes of each example's samples, of a predictor that samples; else None.
        near_ties: examples that were decoded because the target's token led by no more than
            rounding, not because another token led.
    """

    tokens: list[list[int]] | None = None
    texts: list[str] | None = None
    votes: list[list[Vote]] | None = None
    nll: NDArray[np.float64] | None = None
    correct_tokens: NDArray[np.int64] | None = None
    decoded: int = 0
    near_ties: int = 0

    def __post_init__(self) -> None:
        if (self.tokens is None) == (self.texts is None):
            raise ValueError("outputs are either tokens or texts")


class Predictor(Protocol):
    """From examples to outputs.

    A predictor must not look at the part of an example that it is to write, except to find out
    more quickly what it would have written.
    """

    @property
    def device(self) -> torch.device:
        """Where it computes; a clock waits for this device."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides how it writes, for the record of an evaluation."""

    def predict(self, examples: StagedExamples) -> Outputs:
        """The outputs for all ``examples``, in their order, as quickly as can be."""

    def decode(
        self, examples: StagedExamples, index: NDArray[np.int64], own_length: bool = False
    ) -> Outputs:
        """The outputs for the examples ``index`` [B], in one batch, every token decoded.

        This is what is timed.

        Args:
            own_length: write for each example as many tokens as its correct output has, whatever
                they are: weights say nothing about where the outputs of another stage end.
        """

    def answer(
        self,
        questions: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_new_tokens: int,
        tokens_removed: int = 0,
        side: Side = "left",
        keep_position_ids: KeepIds = False,
        separators: int = 2,
        fillers: int = 0,
    ) -> list[str]:
        """Texts for questions whose chain and answer nobody knows.

        Arguments and errors are those of ``icot.inference.answering.answer``.
        """


@runtime_checkable
class Streaming(Protocol):
    """A predictor that shows each token as soon as it is there."""

    model: nn.Module

    def stream(self, prompt: Prompts, max_new_tokens: int, eos_token_id: int) -> Iterator[int]:
        """The output for one prompt, as of ``decode``: at most ``max_new_tokens``, up to its end.

        The model must be in evaluation mode.
        """


class GreedyPredictor:
    """The most probable token, one after the other, of a Hugging Face causal LM.

    Args:
        model: on its device. Dropout is off while it predicts; the mode that the model was in is
            restored.
        batch_size: examples decoded at once, fewer where their cache would not fit.
        decode: ``verify`` decodes only what forward passes leave open
            (``icot.inference.verification``), ``always`` decodes every token. Both write the same
            texts.
    """

    def __init__(self, model: nn.Module, batch_size: int = 500, decode: Decode = "verify") -> None:
        self.model, self.batch_size = model, batch_size
        self._decode: Decode = decode

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return device_of(self.model)

    @property
    def settings(self) -> Mapping[str, Any]:
        """How examples are decoded, and how many at once."""
        return {"decode": self._decode, "batch_size": self.batch_size}

    def predict(self, examples: StagedExamples) -> Outputs:
        """Tokens, and the likelihood of the targets."""
        batch_size = min(self.batch_size, rows_per_cache(self.model, examples))
        with evaluation_mode(self.model):
            if self._decode == "verify":
                verified = verify(self.model, examples)
                tokens = self._complete(examples, verified.leading, batch_size)
            else:
                verified, tokens = self._decode_all(examples, batch_size)
        undecided = verified.leading < examples.target_lengths
        return Outputs(
            tokens=tokens,
            nll=verified.nll,
            correct_tokens=verified.correct_tokens,
            decoded=int(undecided.sum()),
            near_ties=int((verified.near_tie & undecided).sum()),
        )

    def decode(
        self, examples: StagedExamples, index: NDArray[np.int64], own_length: bool = False
    ) -> Outputs:
        """Tokens alone."""
        with evaluation_mode(self.model):
            written = decode(self.model, examples, index, own_length=own_length).tokens
        return Outputs(tokens=written, decoded=len(written))

    def answer(
        self, questions: Sequence[str], tokenizer: PreTrainedTokenizerBase, **settings: Any
    ) -> list[str]:
        """What greedy decoding writes for bare questions."""
        return answer(self.model, tokenizer, questions, batch_size=self.batch_size, **settings)

    def stream(self, prompt: Prompts, max_new_tokens: int, eos_token_id: int) -> Iterator[int]:
        """The most probable tokens, up to the second separator."""
        limit = torch.tensor([max_new_tokens], device=self.device)
        positions = learned_positions(config_of(self.model))
        prompt = prompt.to(self.device)
        for tokens in write_tokens(
            self.model, prompt, limit, eos_token_id, positions, choose=most_probable
        ):
            yield int(tokens[0])

    def _complete(
        self, examples: StagedExamples, sure: NDArray[np.int64], batch_size: int
    ) -> list[list[int]]:
        """The outputs, each of which begins with ``sure`` [n] tokens of its target."""
        _, targets = examples.prompts_and_targets
        outputs = list(targets)
        lengths = examples.target_lengths
        open_ = np.flatnonzero(sure < lengths)
        open_ = open_[np.argsort((examples.lengths - lengths + sure)[open_], kind="stable")]
        for start in range(0, len(open_), batch_size):
            index = open_[start : start + batch_size]
            new = decode(self.model, examples, index, sure[index]).tokens
            for i, written in zip(index.tolist(), new, strict=True):
                outputs[i] = targets[i][: sure[i]] + written
        return outputs

    def _decode_all(
        self, examples: StagedExamples, batch_size: int
    ) -> tuple[Verified, list[list[int]]]:
        """Every output, decoded from the start.

        Where it is the target, decoding has told the likelihood; the other targets take a pass.
        """
        n = len(examples)
        _, targets = examples.prompts_and_targets
        outputs: list[list[int]] = []
        found = Verified.empty(n)
        for start in range(0, n, batch_size):
            index = np.arange(start, min(start + batch_size, n))
            decoded = decode(self.model, examples, index)
            outputs += decoded.tokens
            found.nll[index] = -decoded.log_probability.cpu()
        found.correct_tokens[:] = examples.target_lengths
        wrong = np.array([i for i in range(n) if outputs[i] != targets[i]], dtype=np.int64)
        if len(wrong):
            found.put(wrong, verify(self.model, examples.part(wrong), screen=False))
        found.leading[:], found.near_tie[:] = 0, False  # everything was decoded
        return found, outputs
