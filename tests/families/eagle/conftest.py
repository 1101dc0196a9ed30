"""Heads read for the tiny target."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.target.language_model import LanguageModel
from tests.edits import read_head


@pytest.fixture
def read(target: LanguageModel) -> Callable[[Path], Eagle3]:
    """Read the head in a folder for the tiny target."""
    return lambda folder: read_head(folder, target)[0]
