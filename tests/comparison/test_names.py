from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from driftcli.comparison.names import names
from driftcli.traces.reader import Run, read_run
from tests.report.synthetic import Recipe, write_run


def named(folder: Path, drafter: str) -> Run:
    return read_run(write_run(folder, replace(Recipe(), drafter=drafter, prompts=("one",))))


def test_runs_are_called_by_their_drafters_or_by_their_folders_or_by_their_number(tmp_path: Path) -> None:
    pre, post = named(tmp_path / "x", "heads/pre-norm"), named(tmp_path / "y", "bundled:post-norm")
    again, elsewhere = named(tmp_path / "z", "heads/pre-norm"), named(tmp_path / "deeper" / "x", "heads/pre-norm")
    assert names([pre, post]) == ("pre-norm", "post-norm")
    assert names([pre, again]) == ("x", "z")
    assert names([pre, elsewhere]) == ("RUN0 x", "RUN1 x")


def test_a_hostile_name_is_shown_escaped_and_short(tmp_path: Path) -> None:
    (shown, _) = names([named(tmp_path / "x", "a\x1b[31m" + "b" * 200), named(tmp_path / "y", "c")])
    assert "\x1b" not in shown
    assert len(shown) < 60
