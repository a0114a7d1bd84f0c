"""Finds out at once that the hub cannot be reached, instead of after a minute of retries."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def hub_has_an_address(environment: Mapping[str, str]) -> bool:
    """Whether the hub's name resolves, or a proxy is there that may resolve it.

    Args:
        environment: Environment variables; ``HF_ENDPOINT`` names another hub.
    """
    if any(environment.get(name) for name in _PROXIES):
        return True
    host = urlsplit(environment.get("HF_ENDPOINT") or "https://huggingface.co").hostname
    try:
        socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return True


def go_offline_without_hub() -> bool:
    """Put the Hugging Face libraries into offline mode where the hub has no address.

    What is in their cache is then found at once, and what is not gets its message at once. Has to
    run before those libraries are imported, since they read the variable only then.

    Returns:
        Whether offline mode is on.
    """
    if "HF_HUB_OFFLINE" not in os.environ and not hub_has_an_address(os.environ):
        os.environ["HF_HUB_OFFLINE"] = "1"
    return os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")
