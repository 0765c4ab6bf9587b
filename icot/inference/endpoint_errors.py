"""What goes wrong with a server: whether it passes, how long to wait, what to tell the user."""

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite

import openai

from icot.config.endpoint_options import EndpointOptions
from icot.errors import PausedError, RunError, first_line
from icot.inference.completions import Decoding
from icot.inference.endpoint_answers import MalformedAnswerError

PASSING = (408, 409, 429)  # and all from 500: states of a server that pass
NO_CREDIT = "insufficient_quota"
GO_ON = "What has arrived is kept: the same command, started again, goes on from there."
SECRET = re.compile(r"\b(sk|rk|pk)-[\w-]{4,}")
LONGEST = 500  # characters of a server's message that are shown
LONGEST_WAIT = 86_400.0  # seconds until the next try, whatever the server asks for


def is_passing(error: BaseException) -> bool:
    """Whether to try again."""
    if isinstance(error, openai.APIStatusError):
        passes = error.status_code in PASSING or error.status_code >= 500
        return passes and not _no_credit(error)
    kinds = (openai.APIConnectionError, openai.APIResponseValidationError)
    return isinstance(error, (*kinds, MalformedAnswerError, json.JSONDecodeError))


def _no_credit(error: BaseException) -> bool:
    return NO_CREDIT in (getattr(error, "code", None), getattr(error, "type", None))


def retry_after(error: BaseException | None) -> float | None:
    """The seconds that a server asks to wait, from ``Retry-After`` in either form; else None.

    A day at most; what is no number of seconds is None.
    """
    response = getattr(error, "response", None)
    text = "" if response is None else response.headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text).astimezone(UTC)
        except (ValueError, OverflowError):
            return None
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return min(max(0.0, seconds), LONGEST_WAIT) if isfinite(seconds) else None


def explain(
    error: BaseException, options: EndpointOptions, decoding: Decoding, key: str
) -> RunError:
    """The error that tells the user what went wrong and what to do, without a secret.

    Args:
        error: of the client.
        options: the server.
        decoding: what it was asked for.
        key: its key, "" without one.
    """
    where = f"{options.base_url}, model {options.model}"
    said = mask(first_line(error), key)[:LONGEST]
    status = getattr(error, "status_code", None)
    if _no_credit(error):
        return PausedError(f"{where}: the account has no credit ({said}). {GO_ON}")
    if is_passing(error):
        return PausedError(
            f"{where}: no answer for {options.patience:g} s ({said}). Is the server running? A "
            f"larger patience waits longer. {GO_ON}"
        )
    if status == 401:
        state = "is refused" if key else "is not set"
        return RunError(
            f"{where}: the key, environment variable {options.api_key_env}, {state} ({said})."
        )
    if status in (403, 404):
        return RunError(
            f"{where}: there is no such model or address, or not for this key ({said})."
        )
    chances = "give no log-probabilities (logprobs=false), " if decoding.logprobs else ""
    return RunError(
        f"{where}: the request is refused ({said}). Some models take no temperature "
        f"(temperature=null), {chances}or call the limit max_completion_tokens (token_limit=)."
    )


def mask(text: str, key: str) -> str:
    """A text without the server's key, nor anything that looks like one."""
    return SECRET.sub(r"\1-***", text.replace(key, "***") if key else text)
