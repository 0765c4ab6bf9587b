"""What is asked of a model that continues text, and what it answers.

    for index, completion in server.sample([Request("Q: 1 + 1\nA:"), Request("Q: 2 + 2\nA:")]):
        ...                        # as they arrive, in any order

A server on the network (``icot.inference.endpoint``) and a model in this process answer alike.
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

LENGTH = "length"  # the finish reason of a text that reached the limit
STOP = "stop"  # that of a whole text


@dataclass(frozen=True)
class Request:
    """One text to be written.

    Attributes:
        prompt: what is continued, or the message that is answered.
        sample: its number among several texts for the same prompt.
        seed: of the drawing; None leaves it to the model.
        draw: another number asks a server anew that gets no seed.
    """

    prompt: str
    sample: int = 0
    seed: int | None = None
    draw: int = 0


@dataclass(frozen=True)
class Completion:
    """One text that was written.

    Attributes:
        text: up to the first stop text, without it.
        finish_reason: ``stop``, ``length`` at the limit of tokens, or what else a server says.
        prompt_tokens, completion_tokens: as counted by the model's tokenizer.
        reasoning_tokens: of the latter, those that the server does not show.
        is_estimate: the tokens are an estimate, because the server counts none, or only those of
            several texts together.
        shares_prompt: another text was written in answer to the same request, so that the prompt's
            tokens are counted there.
        logprob, logprob_tokens: the summed log-probability of the text and the number of tokens in
            that sum; None if not asked for.
        model: the name of the model as the server gives it.
        request_key: digest of all that decides the text.
        seconds: from request to answer, of a request that was alone and succeeded at once; else
            None.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0
    is_estimate: bool = False
    shares_prompt: bool = False
    logprob: float | None = None
    logprob_tokens: int | None = None
    model: str = ""
    request_key: str = ""
    seconds: float | None = None

    @property
    def truncated(self) -> bool:
        """Whether the limit of tokens ended it, or the server did, as with ``content_filter``."""
        return self.finish_reason != STOP


@dataclass(frozen=True)
class Decoding:
    """How texts are written.

    Attributes:
        max_tokens: the most tokens of a text.
        temperature: 0 is greedy; None sends none, which is the model's own.
        top_p: of nucleus sampling; None sends none.
        stop: texts at which writing stops.
        logprobs: ask for log-probabilities.
    """

    max_tokens: int
    temperature: float | None = 0.0
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False


def what_cut(reasons: Iterable[str], limit: int) -> str:
    """Why texts were cut, to stand behind "cut": by the limit of tokens or, as it says, by the
    server.

    Args:
        reasons: the finish reasons of these texts.
        limit: of tokens.
    """
    others = sorted({*reasons} - {LENGTH})
    return f"at {limit} tokens" + (f" or by the server ({', '.join(others)})" if others else "")


class Writer(Protocol):
    """Writes texts."""

    def sample(
        self, requests: Sequence[Request], one_at_a_time: bool = False
    ) -> Generator[tuple[int, Completion]]:
        """Each request's index and completion, as they arrive.

        Args:
            requests: any number; texts for the same prompt should follow one another.
            one_at_a_time: begin the next when one has arrived, for timing.

        Raises:
            RunError: the texts cannot be had; what has arrived is kept where that is possible.
        """


def cut_at_stop(text: str, finish_reason: str, stop: Sequence[str]) -> tuple[str, str]:
    """A text up to its first stop text, which some servers leave in, and why it ends."""
    found = min((i for i in map(text.find, stop) if i >= 0), default=-1)
    return (text, finish_reason) if found < 0 else (text[:found], STOP)


def as_unicode(text: str) -> str:
    """A text that every file can hold: halves of characters become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
