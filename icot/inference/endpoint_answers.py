"""What is in a server's answer, and whether that is what was asked for."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from icot.inference.completions import Completion, Request, as_unicode, cut_at_stop

PROMPTS_ALIKE = 20  # with one text for all samples: the server does not sample
BYTES_PER_TOKEN = 4  # of an estimate


class MalformedAnswerError(ValueError):
    """An answer with status 200 that is none."""


@dataclass(frozen=True)
class Choice:
    """One text of an answer; the attributes are those of ``Completion``."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    is_estimate: bool
    shares_prompt: bool
    logprob: float | None
    logprob_tokens: int | None

    def completion(
        self, stop: Sequence[str], *, model: str, request_key: str, seconds: float | None
    ) -> Completion:
        """The completion, cut at the first stop text."""
        text, finish_reason = cut_at_stop(self.text, self.finish_reason, stop)
        values = vars(self) | {"text": text, "finish_reason": finish_reason}
        return Completion(**values, model=model, request_key=request_key, seconds=seconds)


def served_by(answer: Any) -> str:
    """The model's name as the server gives it."""
    return as_unicode(str(getattr(answer, "model", None) or ""))


def choices_of(answer: Any, api: str) -> list[Choice]:
    """The texts of an answer of the client.

    Args:
        answer: a chat's or a completion's.
        api: ``chat`` or ``completions``.

    Tokens that it does not count are estimated.

    Raises:
        MalformedAnswerError: there are none, or what it says of them cannot be read.
    """
    found = getattr(answer, "choices", None)
    if not isinstance(found, list) or not found:
        raise MalformedAnswerError(f"the server's answer has no choices: {answer!r:.200}")
    texts = []
    for choice in found:
        written = getattr(choice, "text", None)
        if api == "chat":
            message = getattr(choice, "message", None)
            if message is None:
                raise MalformedAnswerError(f"a choice has no message: {choice!r:.200}")
            written = message.content
        if not isinstance(written, str | None):
            raise MalformedAnswerError(f"a choice has no text: {choice!r:.200}")
        texts.append(as_unicode(written or ""))  # a refusal has no content
    usage = getattr(answer, "usage", None)
    total = _count(usage, "completion_tokens")
    prompt = _count(usage, "prompt_tokens")
    details = getattr(usage, "completion_tokens_details", None)
    hidden = _count(details, "reasoning_tokens")
    if hidden is None:
        if getattr(details, "reasoning_tokens", None) is not None:
            raise MalformedAnswerError(f"reasoning_tokens is no number: {details!r:.200}")
        hidden = 0
    choices = []
    for i, (choice, text) in enumerate(zip(found, texts, strict=True)):
        logprob, counted = _logprobs(choice, api)
        several = len(found) > 1
        written = len(text.encode()) // BYTES_PER_TOKEN + 1
        if total is not None:  # the server's count, in equal parts
            written = (total + i) // len(found)
        choices.append(
            Choice(
                text=text,
                finish_reason=as_unicode(str(getattr(choice, "finish_reason", None) or "stop")),
                prompt_tokens=prompt or 0,
                completion_tokens=written,
                reasoning_tokens=(hidden + i) // len(found),
                is_estimate=several or total is None or prompt is None,
                shares_prompt=i > 0,
                logprob=logprob,
                logprob_tokens=counted,
            )
        )
    return choices


def _count(usage: Any, name: str) -> int | None:
    """A number of tokens; None where the server gives none."""
    found = getattr(usage, name, None)
    is_count = isinstance(found, int) and not isinstance(found, bool) and found >= 0
    return found if is_count else None


def _logprobs(choice: Any, api: str) -> tuple[float | None, int | None]:
    """The summed log-probability and the tokens in it; None where there is none.

    Raises:
        MalformedAnswerError: there is something else in its place.
    """
    found = getattr(choice, "logprobs", None)
    listed = getattr(found, "content" if api == "chat" else "token_logprobs", None)
    if not isinstance(listed, list | None):
        raise MalformedAnswerError(f"a choice has no log-probabilities: {found!r:.200}")
    values = [getattr(one, "logprob", one) for one in listed or ()]
    numbers = [float(v) for v in values if isinstance(v, int | float) and isfinite(v)]
    return (sum(numbers), len(numbers)) if numbers else (None, None)


class AllAlike:
    """Finds a server that decodes greedily: all samples of many prompts are one text.

    Args:
        requests: all that will be asked for.

    Attributes:
        prompts: those whose samples were all alike; -1 once two samples differ.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self.prompts = 0
        self._waiting = Counter(request.prompt for request in requests)
        self._texts: dict[str, str] = {}
        for prompt in [prompt for prompt, samples in self._waiting.items() if samples < 2]:
            del self._waiting[prompt]

    def after(self, request: Request, text: str) -> bool:
        """Whether it is found out with this text."""
        if self.prompts < 0 or request.prompt not in self._waiting:
            return False
        if self._texts.setdefault(request.prompt, text) != text:
            self.prompts = -1
            self._texts.clear()
            return False
        self._waiting[request.prompt] -= 1
        if not self._waiting[request.prompt]:
            self.prompts += 1
            del self._texts[request.prompt]
        return self.prompts >= PROMPTS_ALIKE
