"""A training run that is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from driftcli.training import learning

FEW = {"steps": 120, "tokens": 128}  # as short a training as keeps its state once, at step 100, and goes on behind that


@contextmanager
def stopped_once_saved(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The run inside is stopped right behind the first time that it keeps its state, and must be."""
    save = learning.Run.save

    def save_and_stop(run: learning.Run) -> None:
        save(run)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(learning.Run, "save", save_and_stop)
        yield
