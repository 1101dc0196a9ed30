"""No network."""

from __future__ import annotations

import socket
from pathlib import Path

import huggingface_hub.constants
import pytest


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, said to the hub and held against everybody, and an empty hub cache, whose folder is returned."""

    def reached(*_: object, **__: object) -> None:
        pytest.fail("the network was reached for")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, reached)
    monkeypatch.setattr(socket.socket, "connect", reached)
    return tmp_path / "hub"
