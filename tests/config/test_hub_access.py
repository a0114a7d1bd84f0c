"""Without an address for the hub, nobody waits for retries."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from ift_lightning.config.hub_access import go_offline_without_hub, hub_has_an_address


def no_address(*_: Any, **__: Any) -> Any:
    raise socket.gaierror(-2, "Name or service not known")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_unknown_host_switches_offline_mode_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    assert go_offline_without_hub()
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_known_host_leaves_everything_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [object()])
    assert not go_offline_without_hub()
    assert "HF_HUB_OFFLINE" not in os.environ


def test_what_the_user_set_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert not go_offline_without_hub()


def test_a_proxy_may_know_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    assert hub_has_an_address({"HTTPS_PROXY": "http://proxy:3128"})


def test_another_endpoint_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host))
    assert hub_has_an_address({"HF_ENDPOINT": "https://hub.example.org/mirror"})
    assert asked == ["hub.example.org"]
