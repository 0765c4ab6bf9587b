"""Whether the Hugging Face hub can be reached."""

import socket
from functools import cache
from urllib.parse import urlparse
from urllib.request import getproxies

import huggingface_hub


@cache
def hub_is_reachable() -> bool:
    """Whether the hub's name resolves; if not, transformers would retry for a minute."""
    if getproxies():
        return True
    try:
        socket.getaddrinfo(urlparse(huggingface_hub.constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True
