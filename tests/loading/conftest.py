"""The tiny target, loaded once, and copies of the tiny models to break."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from driftcli.drafters.eagle3 import Eagle3
from driftcli.loading.files import Source
from driftcli.loading.target import LanguageModel, load_language_model
from tests.loading.edits import read_head


@pytest.fixture(scope="session")
def target(models: Path) -> LanguageModel:
    """The tiny target; read only."""
    return load_language_model(Source("target", models / "target"), torch.device("cpu"), "float32")


@pytest.fixture
def copy(models: Path, tmp_path: Path) -> Callable[[str], Path]:
    """`copy(name)` is a folder of its own with the files of that tiny model."""
    return lambda name: shutil.copytree(models / name, tmp_path / name)


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


@pytest.fixture
def read(target: LanguageModel) -> Callable[[Path], Eagle3]:
    """Read the head in a folder for the tiny target."""
    return lambda folder: read_head(folder, target)[0]
