"""The schema of an OpenAI-compatible server, and of what may be spent on it.

There is no key for a secret: the server's key is read from the environment.
"""

from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from icot.config.section import Section


class PriceConfig(Section):
    """What a million tokens cost, in any currency."""

    prompt: float = Field(ge=0)
    """Of the prompts."""
    completion: float = Field(ge=0)
    """Of what is written, hidden reasoning included."""


class BudgetConfig(Section):
    """The most to spend, answers of earlier commands that are reused included."""

    tokens: int | None = Field(None, ge=1)
    """Tokens of prompts and completions; null for no limit."""
    cost: float | None = Field(None, gt=0)
    """Cost, by ``price_per_million``; null for no limit."""


def mistakes_of_budget(value: Callable[[str], Any], budget: str, options: str) -> list[str]:
    """That a limit on cost has no price; ``value`` gives that of a dotted key.

    Args:
        value: as above.
        budget: the section with the limit.
        options: the section with the price.
    """
    if value(f"{budget}.cost") is None or value(f"{options}.price_per_million") is not None:
        return []
    price = f"{options}.price_per_million={{prompt: 30, completion: 60}}"
    return [f"{budget}.cost needs a price: {price}"]


class EndpointOptions(Section):
    """A server, and how to speak to it."""

    base_url: str
    """The address of the interface, http://127.0.0.1:8000/v1."""
    model: str
    """The model's name on the server."""
    api: Literal["chat", "completions"] = "chat"
    """The prompt is a user's message of a chat, or bare text that is continued."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the server's key."""
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls the limit of tokens that may be written."""
    extra_body: dict[str, Any] | None = None
    """More keys of a request, which only some servers know: ``{top_k: -1}``."""
    concurrency: int = Field(8, ge=1)
    """Requests in flight at once; halved whenever the server says that they are too many."""
    patience: float = Field(600.0, ge=0)
    """Seconds of failures in a row after which the command gives up."""
    timeout: float = Field(600.0, gt=0)
    """Seconds to wait for one answer."""
    price_per_million: PriceConfig | None = None
    """What a million tokens cost, ``{prompt: 30, completion: 60}``; null computes no cost."""

    @field_validator("base_url")
    @classmethod
    def _holds_no_secret(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address, http://... or https://...")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                "must have no user name, password or query: a key is read from the environment "
                "variable that api_key_env names"
            )
        return url.rstrip("/")
