"""A causal LM in this process that gets prompts."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from time import perf_counter

from torch import nn
from transformers import PreTrainedTokenizerBase

from icot.data.leading_tokens import leading_tokens
from icot.inference.completions import Completion, Decoding, Request, as_unicode
from icot.inference.teachers import ModelTeacher
from icot.inference.usage import Usage


class PromptedModel(ModelTeacher):
    """The model of a folder or of the hub, which may be a chat model, or one of icot's own.

    Args:
        model, tokenizer, decoding, batch_size: as of ``LocalTeacher``.
        chat: put prompts into the tokenizer's chat template.
        separators: end-of-sequence tokens that a text has, the last of which ends it.

    Attributes:
        usage: what has been used.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        decoding: Decoding,
        batch_size: int,
        *,
        chat: bool,
        separators: int,
    ) -> None:
        super().__init__(model, tokenizer, decoding, batch_size)
        self.chat, self.separators = chat, separators
        self.usage = Usage()

    def sample(
        self, requests: Sequence[Request], one_at_a_time: bool = False
    ) -> Generator[tuple[int, Completion]]:
        """As of ``Writer``: short prompts first, so that a batch has little padding.

        Raises:
            DataError: a prompt is longer than the model's positions.
        """
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt))
        begun = perf_counter()
        for index, one in super().sample([requests[i] for i in order], one_at_a_time):
            seconds = perf_counter() - begun if one_at_a_time else None
            completion = replace(one, text=as_unicode(one.text), seconds=seconds)
            self.usage.count(completion=completion, sent=1, answered=1)
            yield order[index], completion
            begun = perf_counter()

    def tokenize(self, prompts: list[str]) -> list[list[int]]:
        """With the chat's roles, and the tokens that the tokenizer begins a text with."""
        if self.chat:
            prompts = [str(self._as_chat(prompt)) for prompt in prompts]
        rows: list[list[int]] = self.tokenizer(prompts, add_special_tokens=False)["input_ids"]
        first = list(leading_tokens(self.tokenizer))
        return [row if row[: len(first)] == first else [*first, *row] for row in rows]

    def _as_chat(self, prompt: str) -> object:
        message = [{"role": "user", "content": prompt}]
        return self.tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True
        )
