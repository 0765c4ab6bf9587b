"""Teachers on this machine: a run of icot, or any causal LM with exemplars in its prompts.

Both write a block of questions at once, with the key-value cache of ``icot.inference.greedy``.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from icot.data.tokenized import detokenize, separator_id
from icot.inference.answering import positions_for, tokenize_questions
from icot.inference.completions import LENGTH, Completion, Decoding, Request, cut_at_stop
from icot.inference.greedy import (
    END_SEPARATORS,
    Prompts,
    cached_bytes_per_token,
    evaluation_mode,
    finish,
    rows_that_fit,
    without_end,
    write_tokens,
)
from icot.inference.sampling import next_tokens
from icot.models.introspection import device_of
from icot.removal import KeepIds, Side
from icot.tasks.answers import ANSWER_MARK

TAIL = 8  # tokens at the end of a text in which the stopping text is looked for


class LocalTeacher(ABC):
    """A causal LM on its device; a ``Writer`` that always writes the same texts.

    Args:
        model: its mode is restored after each batch.
        tokenizer: of the model.
        decoding: how it writes.
        batch_size: texts written at once, in parts if their cache does not fit.
    """

    separators = 1  # that end a text
    jump = 0  # by which the position ids of a text are further on
    jump_in_prompt = 0  # by which the last position id of a prompt is further on

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        decoding: Decoding,
        batch_size: int,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.decoding, self.batch_size = decoding, batch_size
        stop = "".join(decoding.stop[:1])
        self.ending: list[int] = tokenizer(stop, add_special_tokens=False)["input_ids"]

    def sample(
        self, requests: Sequence[Request], one_at_a_time: bool = False
    ) -> Generator[tuple[int, Completion]]:
        """As of ``Writer``: in order, a batch at a time.

        Raises:
            DataError: a prompt is longer than the model's positions.
        """
        size = 1 if one_at_a_time else self.batch_size
        for start in range(0, len(requests), size):
            part = requests[start : start + size]
            yield from enumerate(self._write(part), start)

    def _write(self, requests: Sequence[Request]) -> Iterator[Completion]:
        rows = self.tokenize([request.prompt for request in requests])
        longest, most = max(map(len, rows)), self.decoding.max_tokens
        positions = positions_for(self.model, longest + self.jump_in_prompt)
        size = rows_that_fit(cached_bytes_per_token(self.model) * (longest + most))
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            with evaluation_mode(self.model):
                yield from self._complete(requests[part], rows[part], positions)

    def _complete(
        self, requests: Sequence[Request], rows: list[list[int]], positions: int | None
    ) -> Iterator[Completion]:
        decoding, device = self.decoding, device_of(self.model)
        keys = [(request.seed or 0, request.sample) for request in requests]
        steps = write_tokens(
            self.model,
            self.prompts(rows).to(device),
            torch.full((len(rows),), decoding.max_tokens, device=device),
            separator_id(self.tokenizer),
            positions,
            choose=next_tokens(
                1.0 if decoding.temperature is None else decoding.temperature,
                1.0 if decoding.top_p is None else decoding.top_p,
                keys,
                decoding.max_tokens,
                device,
            ),
            separators=self.separators,
            is_over=self.is_over,
        )
        decoded = finish(steps)
        texts = self.texts(decoded.tokens)
        likelihood = decoded.log_probability.tolist()
        for row, tokens, (text, reason), logprob in zip(
            rows, decoded.tokens, texts, likelihood, strict=True
        ):
            n = len(tokens)
            yield Completion(text, reason, len(row), n, logprob=logprob, logprob_tokens=n)

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
    def texts(self, written: list[list[int]]) -> list[tuple[str, str]]:
        """The text in some new tokens, and why it ends there."""

    @abstractmethod
    def tokens_of(self, written: Completion) -> list[int]:
        """The other way round: the tokens that a text is likely to have, without those at its end.

        The latter are a separator, or the first text that stops it, ``ending``.
        """


class RunTeacher(LocalTeacher):
    """The model of a run at a stage: its prompt is a question, and it ends at the second separator.

    At temperature 0 its texts are the predictions of ``icot.evaluate``.

    Args:
        tokens_removed, side, keep_position_ids, fillers: of the stage, as in
            ``icot.inference.answering``.
        before_answer: its ``separators``.
    """

    separators = END_SEPARATORS

    def __init__(
        self,
        *args: Any,
        tokens_removed: int,
        side: Side,
        keep_position_ids: KeepIds,
        before_answer: int = 2,
        fillers: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.side: Side = side
        self.one = before_answer == 1
        self.jump = tokens_removed + self.one if keep_position_ids else 0
        self.told = keep_position_ids == "from_separator"
        self.fillers = fillers
        self.jump_in_prompt = self.jump * self.told

    def tokenize(self, prompts: list[str]) -> list[list[int]]:
        """Each question with its separator and fillers."""
        return tokenize_questions(prompts, self.tokenizer, self.fillers)

    def prompts(self, rows: list[list[int]]) -> Prompts:
        """With the position ids of the stage."""
        eos = separator_id(self.tokenizer)
        return Prompts.of_questions(
            rows, eos, self.jump, self.side, self.told, self.one, self.fillers
        )

    def texts(self, written: list[list[int]]) -> list[tuple[str, str]]:
        """What is left of the chain, the mark and the answer."""
        eos = separator_id(self.tokenizer)
        texts = detokenize(self.tokenizer, [without_end(tokens, eos) for tokens in written])
        return [
            (text, "stop" if tokens.count(eos) == END_SEPARATORS - self.one else LENGTH)
            for text, tokens in zip(texts, written, strict=True)
        ]

    def tokens_of(self, written: Completion) -> list[int]:
        """With the separator between what is left of the chain, and the mark."""
        before, mark, after = written.text.partition(ANSWER_MARK)
        chain, answer = before.strip(), f"{mark} {after.strip()}".strip()
        is_in_chain = written.truncated and not mark
        eos = "" if self.one or is_in_chain else str(self.tokenizer.eos_token)
        text = " ".join(part for part in (chain, eos, answer) if part)
        text = f"{' ' if chain or self.one else ''}{text}{'' if written.truncated else ' '}"
        tokens: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return tokens


class ModelTeacher(LocalTeacher):
    """Any causal LM: it continues a text until a text that stops it, or its own end token."""

    def tokenize(self, prompts: list[str]) -> list[list[int]]:
        """With the tokens that the tokenizer begins a text with."""
        rows: list[list[int]] = self.tokenizer(prompts)["input_ids"]
        return rows

    def prompts(self, rows: list[list[int]]) -> Prompts:
        """As they are."""
        return Prompts.of_questions(rows, separator_id(self.tokenizer), 0, "left")

    def is_over(self, written: Tensor) -> Tensor:
        """Whether a stopping text has been written."""
        tails = self._decode(written[:, -TAIL:].tolist())
        over = [any(stop in tail for stop in self.decoding.stop) for tail in tails]
        return torch.tensor(over, device=written.device)

    def texts(self, written: list[list[int]]) -> list[tuple[str, str]]:
        """Up to the stopping text."""
        eos = separator_id(self.tokenizer)
        return [
            cut_at_stop(
                text,
                "stop" if tokens.count(eos) == self.separators else LENGTH,
                self.decoding.stop,
            )
            for text, tokens in zip(self._decode(written), written, strict=True)
        ]

    def tokens_of(self, written: Completion) -> list[int]:
        """Those of the text alone, as it stands behind the prompt."""
        tokens: list[int] = self.tokenizer(written.text, add_special_tokens=False)["input_ids"]
        return tokens

    def _decode(self, rows: list[list[int]]) -> list[str]:
        return [str(self.tokenizer.decode(row, skip_special_tokens=True)) for row in rows]


def hash_of_weights(model: nn.Module) -> str:
    """A hash of a model's weights, by which a teacher is known again."""
    found = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        found.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        found.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
