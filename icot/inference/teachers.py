"""Teachers on this machine: a run of icot, or any causal LM with exemplars in its prompts.

Both write a block of questions at once, with the key-value cache of ``icot.inference.greedy``.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from icot.data.tokenized import detokenize, separator_id
from icot.inference.answering import positions_for, tokenize_questions
from icot.inference.completions import Completion, FinishReason, Request
from icot.inference.greedy import (
    END_SEPARATORS,
    Prompts,
    cached_bytes_per_token,
    continue_prompts,
    evaluation_mode,
    rows_that_fit,
    without_end,
)
from icot.inference.sampling import Sampling
from icot.models.introspection import device_of
from icot.removal import KeepIds, Side

TAIL = 8  # tokens at the end of a text in which the stopping text is looked for


class LocalTeacher(ABC):
    """A causal LM on its device.

    Args:
        model: its mode is restored after each block.
        tokenizer: of the model.
        identity: what decides its texts, for the record.
        sampling: how it chooses tokens.
        max_new_tokens: the limit of a text; the model's positions may set a lower one.
        block: questions decoded at once, in parts if their cache does not fit.
    """

    separators = 1  # that end a text

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        identity: Mapping[str, Any],
        sampling: Sampling,
        max_new_tokens: int,
        block: int,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.identity, self.sampling, self.block = identity, sampling, block
        self.max_new_tokens = max_new_tokens

    def usage(self) -> Mapping[str, Any]:
        """Nothing besides the tokens."""
        return {}

    def sample(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """The completions of a block.

        Raises:
            DataError: a prompt is longer than the model's positions.
        """
        rows = self.tokenize([request.prompt for request in requests])
        longest = max(map(len, rows))
        positions = positions_for(self.model, longest + self.jump_in_prompt)
        size = rows_that_fit(cached_bytes_per_token(self.model) * (longest + self.max_new_tokens))
        for start in range(0, len(rows), size):
            part = requests[start : start + size]
            with evaluation_mode(self.model):
                yield from self._complete(part, rows[start : start + size], positions)

    def _complete(
        self, requests: Sequence[Request], rows: list[list[int]], positions: int | None
    ) -> Iterator[Completion]:
        device, eos = device_of(self.model), separator_id(self.tokenizer)
        keys = [(request.index, request.sample) for request in requests]
        decoded = continue_prompts(
            self.model,
            self.prompts(rows).to(device),
            torch.full((len(rows),), self.max_new_tokens, device=device),
            eos,
            positions,
            choose=self.sampling.choose(keys, self.max_new_tokens, device),
            separators=self.separators,
            is_over=self.is_over,
        )
        texts = self.texts(decoded.tokens)
        likelihood = decoded.log_probability.tolist()
        for request, row, tokens, (text, reason), logprob in zip(
            requests, rows, decoded.tokens, texts, likelihood, strict=True
        ):
            count = len(tokens)
            yield Completion(request, text, reason, len(row), count, logprob, count)

    jump_in_prompt = 0  # by which the last position id of a prompt is further on

    def is_over(self, written: Tensor) -> Tensor:
        """Rows [B] that end for another reason than separators, by their tokens [B, n]."""
        return torch.zeros(len(written), dtype=torch.bool, device=written.device)

    @abstractmethod
    def tokenize(self, prompts: list[str]) -> list[list[int]]:
        """The tokens of each prompt."""

    @abstractmethod
    def prompts(self, rows: list[list[int]]) -> Prompts:
        """The batch of some prompts' tokens, on the CPU."""

    @abstractmethod
    def texts(self, written: list[list[int]]) -> list[tuple[str, FinishReason]]:
        """The text in some new tokens, and why it ends there."""


class RunTeacher(LocalTeacher):
    """The model of a run at a stage: its prompt is a question, and it ends at the second separator.

    At temperature 0 its texts are the predictions of ``icot.evaluate``.

    Args:
        tokens_removed, side, keep_position_ids: of the stage, as in ``icot.inference.answering``.
    """

    separators = END_SEPARATORS

    def __init__(
        self,
        *args: Any,
        tokens_removed: int,
        side: Side,
        keep_position_ids: KeepIds,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.side: Side = side
        self.jump = tokens_removed if keep_position_ids else 0
        self.told = keep_position_ids == "from_separator"
        self.jump_in_prompt = self.jump * self.told

    def tokenize(self, prompts: list[str]) -> list[list[int]]:
        """Each question with its separator."""
        return tokenize_questions(prompts, self.tokenizer)

    def prompts(self, rows: list[list[int]]) -> Prompts:
        """With the position ids of the stage."""
        eos = separator_id(self.tokenizer)
        return Prompts.of_questions(rows, eos, self.jump, self.side, self.told)

    def texts(self, written: list[list[int]]) -> list[tuple[str, FinishReason]]:
        """What is left of the chain, the mark and the answer."""
        eos = separator_id(self.tokenizer)
        texts = detokenize(self.tokenizer, [without_end(tokens, eos) for tokens in written])
        return [
            (text, "stop" if tokens.count(eos) == END_SEPARATORS else "length")
            for text, tokens in zip(texts, written, strict=True)
        ]


class ModelTeacher(LocalTeacher):
    """Any causal LM: it continues a prompt of text up to a text that stops it, or its own end.

    Args:
        stop: the text, which is cut off.
    """

    def __init__(self, *args: Any, stop: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stop = stop

    def tokenize(self, prompts: list[str]) -> list[list[int]]:
        """With the tokens that the tokenizer begins a text with."""
        rows: list[list[int]] = self.tokenizer(prompts)["input_ids"]
        return rows

    def prompts(self, rows: list[list[int]]) -> Prompts:
        """As they are."""
        return Prompts.of_questions(rows, separator_id(self.tokenizer), 0, "left")

    def is_over(self, written: Tensor) -> Tensor:
        """Whether the stopping text has been written."""
        tails = self._decode(written[:, -TAIL:].tolist())
        over = [self.stop in tail for tail in tails]
        return torch.tensor(over, device=written.device)

    def texts(self, written: list[list[int]]) -> list[tuple[str, FinishReason]]:
        """Up to the stopping text."""
        eos = separator_id(self.tokenizer)
        found: list[tuple[str, FinishReason]] = []
        for text, tokens in zip(self._decode(written), written, strict=True):
            before, stop, _ = text.partition(self.stop)
            found.append((before, "stop" if stop or eos in tokens else "length"))
        return found

    def _decode(self, rows: list[list[int]]) -> list[str]:
        return [str(self.tokenizer.decode(row, skip_special_tokens=True)) for row in rows]


def hash_of_weights(model: nn.Module) -> str:
    """A hash of a model's weights, by which a teacher is known again."""
    found = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        found.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        found.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
