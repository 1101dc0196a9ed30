from __future__ import annotations

import pytest

from driftcli.conditions import Condition, DraftSettings, TextSettings
from driftcli.domain import Finding, Open, RunSpec, Skipped, Sound
from driftcli.statistics.shift import Shift
from driftcli.testing import Facts, pair_card
from probes.target_shift import KEEP, RETRAIN, TargetShift
from tests.probes.shifts import shifted


def judged(shift: Shift) -> list[object]:
    return list(TargetShift().judge(Facts(shift=shift)))


def test_the_twins_rows_and_its_replies_are_asked_for_where_there_is_a_twin() -> None:
    assert TargetShift().conditions(pair_card(), RunSpec()) == ()
    assert TargetShift().conditions(pair_card(), RunSpec(depth=3, against="0123")) == [
        Condition("twin", DraftSettings(3), "target-shift", text=TextSettings(twin="rows")),
        Condition("twin-replies", DraftSettings(3), "target-shift", text=TextSettings(twin="replies")),
    ]


def test_a_run_without_a_twin_is_not_judged() -> None:
    assert list(TargetShift().judge(Facts())) == []


@pytest.mark.parametrize(("here", "severity"), [(54, "mild"), (48, "moderate"), (30, "severe")])
def test_drafts_that_surely_are_lost_are_found_and_graded(here: float, severity: str) -> None:
    (found,) = judged(shifted(60, here=here))
    assert isinstance(found, Finding)
    assert (found.code, found.severity, found.unit) == ("TARGET-SHIFT", severity, "share of accepted drafts")
    assert found.estimate.value == pytest.approx(1 - here / 60)


def test_the_claim_names_the_twin_the_loss_its_parts_and_the_replies() -> None:
    (found,) = judged(shifted(60, 50, 45, 48, parted=0.5))
    assert isinstance(found, Finding)
    assert found.claim == (
        "against the float one 20% [20%, 20%] of the accepted draft tokens are lost (acceptance length -0.60 [-0.60, -0.60]: -0.50 by other "
        "hidden states, -0.25 by other wanted tokens, +0.15 by other text behind them); 50% of the replies differ"
    )


def test_what_to_do_goes_by_what_costs_more() -> None:
    (streams,), (tokens,) = judged(shifted(60, 40, 40, 40)), judged(shifted(60, 58, 40, 40))
    assert isinstance(streams, Finding) and isinstance(tokens, Finding)
    assert (streams.fix, tokens.fix) == (KEEP, RETRAIN)


def test_no_loss_with_a_narrow_interval_is_sound_and_says_its_bound() -> None:
    (said,) = judged(shifted(60, here=(61, 59)))
    assert isinstance(said, Sound) and said.axis == "domain"
    assert said.reason.startswith("no shift seen, against the float one 0% [-1%, 1%] of the accepted draft tokens are lost")
    assert said.reason.endswith("; a loss of 1% or more is excluded")


def test_no_loss_with_a_wide_interval_is_open_with_its_bound() -> None:
    (said,) = judged(shifted(60, here=(80, 40)))
    assert isinstance(said, Open) and said.bound is not None and said.bound > 0.15
    assert "no shift seen, against the float one 0% [" in said.reason


def test_a_loss_that_is_shown_and_may_be_small_or_moderate_is_inconclusive() -> None:
    (said,) = judged(shifted(60, here=(62, 44), prompts=16))
    assert isinstance(said, Skipped) and said.state == "inconclusive"
    assert "no shift seen" not in said.reason


def test_more_drafts_than_with_the_twin_are_no_finding() -> None:
    (said,) = judged(shifted(40, here=60))
    assert isinstance(said, Sound) and "against the float one -50% [-50%, -50%]" in said.reason


def test_the_same_target_is_sound_whatever_rounding_does() -> None:
    (exact,), (near,) = judged(shifted(same=True)), judged(shifted(60, here=30, parted=0.2, same=True))
    assert exact == Sound("domain", "the twin is the same target, computed alike, and nothing differs")
    assert isinstance(near, Sound) and "so what differs is rounding: against the float one 50%" in near.reason


def test_another_wiring_too_few_prompts_and_texts_that_were_not_measured_decide_nothing() -> None:
    for shift, why in (
        (shifted(here=30, other_wiring="x there, y here"), "otherwise, x there, y here"),
        (shifted(here=30, prompts=7), "7 prompts"),
    ):
        (said,) = judged(shift)
        assert isinstance(said, Skipped) and said.state == "inconclusive" and why in said.reason

    class Lost(Facts):
        @property
        def spec(self) -> RunSpec:  # type: ignore[override]
            return RunSpec(against="0123")

    (said,) = TargetShift().judge(Lost())
    assert isinstance(said, Skipped) and "its replies were not measured here" in said.reason
