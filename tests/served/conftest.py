from __future__ import annotations

import pytest

from driftcli.served import asking
from driftcli.traces.reader import Run
from tests.served.world import made_run


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers here have counted before they answer."""
    monkeypatch.setattr(asking, "LOOK_AGAIN", 0.0)


@pytest.fixture(scope="package")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of 24 prompts and two other wirings."""
    return made_run(tmp_path_factory.mktemp("served") / "run")
