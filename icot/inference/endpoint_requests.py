"""What is sent to a server, and the digest of all that decides an answer."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from icot.config.endpoint_options import EndpointOptions
from icot.inference.completions import Decoding, Request
from icot.inference.usage import Tokens

CHOICES = 128  # the most texts that one request asks for
ENVELOPE = 64  # tokens of a chat's roles, at most
Group = list[tuple[int, Request]]  # indexed requests of one prompt, sent as one


def request_key(options: EndpointOptions, decoding: Decoding, request: Request) -> str:
    """Digest of everything that decides a text."""
    content = {
        "base_url": options.base_url,
        "api": options.api,
        "model": options.model,
        "prompt": request.prompt,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "max_tokens": decoding.max_tokens,
        "stop": list(decoding.stop),
        "logprobs": decoding.logprobs,
        "extra_body": options.extra_body or {},
        "seed": request.seed,
        "draw": request.draw,
        "sample": request.sample,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def body(options: EndpointOptions, decoding: Decoding, group: Group) -> dict[str, Any]:
    """The arguments of the client for the texts of one prompt."""
    first = group[0][1]
    extra = dict(options.extra_body or {})
    optional: dict[str, Any] = {
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "stop": list(decoding.stop) or None,
        "seed": first.seed,
        "n": len(group) if len(group) > 1 else None,
    }
    is_chat = options.api == "chat"
    if is_chat or options.token_limit == "max_tokens":
        optional[options.token_limit] = decoding.max_tokens
    else:  # the client's completions know no other name
        extra[options.token_limit] = decoding.max_tokens
    if decoding.logprobs:
        optional["logprobs"] = True if is_chat else 1
    message = [{"role": "user", "content": first.prompt}]
    asked = {"messages": message} if is_chat else {"prompt": first.prompt}
    given = {key: value for key, value in optional.items() if value is not None}
    return {"model": options.model, **asked, **given, **({"extra_body": extra} if extra else {})}


def group_by_prompt(
    requests: Sequence[Request], wanted: Sequence[int], together: bool
) -> list[Group]:
    """The requests to send for the texts ``wanted``.

    Args:
        requests: all texts.
        wanted: indices into them.
        together: ask for neighbours of one prompt at once, if no seed tells them apart.
    """
    groups: list[Group] = []
    for index in wanted:
        request = requests[index]
        if groups and together and len(groups[-1]) < CHOICES:
            first = groups[-1][0][1]
            if first.prompt == request.prompt and first.seed is request.seed is None:
                groups[-1].append((index, request))
                continue
        groups.append([(index, request)])
    return groups


def most_tokens(groups: Sequence[Group], decoding: Decoding) -> Tokens:
    """What requests use at most: a token is at least one byte."""
    sizes = [len(group[0][1].prompt.encode("utf-8", "replace")) + ENVELOPE for group in groups]
    return Tokens(sum(sizes), decoding.max_tokens * sum(map(len, groups)))
