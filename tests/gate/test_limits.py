from __future__ import annotations

import numpy as np
import pytest

from driftcli.domain import Absent, Estimate
from driftcli.gate import limits
from driftcli.gate.limits import Limit, Side, limit_check, more_to_settle, too_few_by
from driftcli.outcome import Check
from driftcli.traces.reader import Run, read_run
from tests.report.synthetic import WITHOUT_STATE, Recipe, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(write_run(tmp_path_factory.mktemp("runs") / "run", Recipe(WITHOUT_STATE)))


def held(run: Run, monkeypatch: pytest.MonkeyPatch, number: Estimate | Absent, side: Side, limit: float) -> Check:
    monkeypatch.setattr(limits, "value_of", lambda *_: (number, "share"))
    return limit_check(run, Limit(side, "joint@3", limit, "--min"), "train on")


@pytest.mark.parametrize(
    ("side", "limit", "status"),
    [
        ("min", 0.25, "passed"),
        ("min", 0.3, "passed"),  # at the end of the interval
        ("min", 0.35, "undecided"),
        ("min", 0.5, "undecided"),
        ("min", 0.51, "failed"),
        ("max", 0.51, "passed"),
        ("max", 0.5, "passed"),
        ("max", 0.45, "undecided"),
        ("max", 0.3, "undecided"),
        ("max", 0.29, "failed"),
    ],
)
def test_a_limit_is_judged_by_the_whole_interval(run: Run, monkeypatch: pytest.MonkeyPatch, side: Side, limit: float, status: str) -> None:
    check = held(run, monkeypatch, Estimate(0.4, 0.3, 0.5, 20), side, limit)
    assert (check.rule, check.status, check.limit) == (f"{side}:joint@3", status, limit)
    assert check.estimate == Estimate(0.4, 0.3, 0.5, 20)
    assert check.fix == ("train on" if status == "failed" else "")
    assert "0.40 [0.30, 0.50]" in check.reason and f"{limit:g}" in check.reason


def test_an_undecided_limit_says_how_many_more_prompts_would_tell(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The half towards the limit is 0.1, the room 0.1: (1 + 0.84 / 1.96)**2 = 2.04 times the 20 prompts, so 20.8 more, to the next ten."""
    check = held(run, monkeypatch, Estimate(0.4, 0.3, 0.5, 20), "min", 0.3001)
    assert check.more_prompts == 30
    assert check.reason.endswith("lies on either side of 0.3001; about 30 more prompts would tell")
    far = held(run, monkeypatch, Estimate(0.4, 0.3, 0.5, 20), "min", 0.399)
    assert far.more_prompts is None and far.reason.endswith("more prompts would hardly tell")


def test_with_so_many_more_prompts_four_of_five_runs_do_tell() -> None:
    """Simulated: means of normal prompts around a truth that is what the first run saw."""
    seen, limit = Estimate(0.4, 0.3, 0.5, 20), 0.35
    more = more_to_settle(seen, limit)
    assert more is not None
    spread = 0.1 / 1.96 * np.sqrt(20)
    standard = spread / np.sqrt(20 + more)
    means = np.random.default_rng(3).normal(0.4, standard, 4000)
    assert 0.76 <= np.mean(means - 1.96 * standard > limit) <= 0.86


def test_too_few_prompts_tell_nothing_and_how_many_are_missing_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    check = held(run, monkeypatch, Absent("3 prompts with a chain, at least 8 are needed", 0.41, 3), "min", 0.3)
    assert (check.status, check.more_prompts, check.estimate) == ("undecided", 5, None)
    assert check.reason.startswith("joint@3 0.41, but without an interval: 3 prompts with a chain")
    assert check.reason.endswith("at least 5 more prompts are needed")
    assert [too_few_by(prompts) for prompts in (0, 1, 7, 8)] == [None, 7, 1, None]


def test_what_cannot_be_told_at_all_is_undecided_with_the_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    check = held(run, monkeypatch, Absent("no step times are known"), "min", 1)
    assert (check.status, check.reason) == ("undecided", "joint@3 cannot be told: no step times are known")


def test_what_does_not_apply_is_skipped_with_the_reason(run: Run) -> None:
    check = limit_check(run, Limit("max", "compounding", 0.1, "--max"), "")
    assert check.status == "skipped" and "feeds no state" in check.reason
