from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from driftcli.cli.battery import load_battery
from driftcli.domain import Verdict
from driftcli.report.verdict import judge
from driftcli.traces.reader import Run, read_run
from tests.report.synthetic import Recipe, write_run

Judged = Callable[[Recipe], tuple[Run, Verdict]]


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judged:
    """`judged(recipe)` writes a run to the folder `run` of an empty working directory, reads it back and judges it."""
    monkeypatch.chdir(tmp_path)

    def make(recipe: Recipe) -> tuple[Run, Verdict]:
        run = read_run(write_run(Path("run"), recipe))
        return run, judge(run, load_battery(run.probe_names))

    return make
