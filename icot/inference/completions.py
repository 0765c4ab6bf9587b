"""What asks a model for texts, and what it gets back: here, on this machine, or from a server.

    for completion in teacher.sample(requests): ...      as they arrive
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Request:
    """One text that is asked for.

    Attributes:
        index: of the question, in its split.
        sample: the text's number among those of the question, from 0.
        prompt: the whole text to continue; for a run of icot, the question.
    """

    index: int
    sample: int
    prompt: str


@dataclass(frozen=True)
class Completion:
    """The text that came for a request.

    Attributes:
        request: which one.
        text: without the prompt, and without the text that stopped it.
        finish_reason: ``length`` if the limit of tokens cut it.
        prompt_tokens, completion_tokens: as counted by the model or its server; None if unknown.
        logprob: the log-probability of the text, a sum over ``logprob_tokens`` tokens, whatever the
            temperature; None if it was not asked for.
        request_key: of the request in a cache; None without one.
    """

    request: Request
    text: str
    finish_reason: FinishReason
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    logprob: float | None = None
    logprob_tokens: int | None = None
    request_key: str | None = None


class Teacher(Protocol):
    """A model that continues prompts.

    Attributes:
        identity: what decides its texts, apart from the requests, for the corpus's record.
        block: questions that are decoded together, and always the same ones so that a
            continuation repeats them exactly; None if each request stands for itself.
    """

    @property
    def identity(self) -> Mapping[str, Any]: ...

    @property
    def block(self) -> int | None: ...

    def usage(self) -> Mapping[str, Any]:
        """Further counts for ``usage.json``: requests sent, retried, cost."""

    def sample(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """The completions as they arrive, each request's once.

        Raises:
            UserError: the model cannot answer; what has been yielded stands.
        """
