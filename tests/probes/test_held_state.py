from __future__ import annotations

import pytest

from driftcli.conditions import Condition, DraftSettings
from driftcli.domain import Absent, Estimate, Finding, RunSpec
from driftcli.testing import Facts, Head, pair_card
from probes.held_state import HELD, HeldState


def judged(kept: tuple[float, float, float], *, prompts: int = 10) -> list[object]:
    return list(HeldState().judge(Facts(Head(prompts=prompts), ratios={HELD: Estimate(*kept, prompts)})))


def test_one_condition_at_full_depth_is_asked_for_where_a_state_is_handed_on() -> None:
    assert HeldState().conditions(pair_card(), RunSpec(depth=2)) == [Condition(HELD, DraftSettings(2, held=True), "held-state")]
    assert HeldState().conditions(pair_card(), RunSpec(quick=True)) == HeldState().conditions(pair_card(), RunSpec())
    assert HeldState().conditions(pair_card(), RunSpec(depth=1)) == ()
    assert HeldState().conditions(pair_card(no_recursion="no state"), RunSpec()) == ()


def test_a_head_that_keeps_more_on_the_held_state_is_better_off_without_feedback() -> None:
    (found,) = judged((1.2, 1.1, 1.3))
    assert isinstance(found, Finding)
    assert (found.code, found.severity, found.condition) == ("HELD-BEATS-OWN", "healthy", HELD)
    assert found.claim == (
        "with the target's state held from where each chain begins 120% [110%, 130%] of the accepted draft tokens: "
        "the state that is fed back does worse than none"
    )


def test_the_ratio_is_that_of_accepted_drafts_prompt_by_prompt() -> None:
    own, held = Head(kept=(40, 40, 40, 20)), Head(kept=(40, 40, 40, 30))  # over 40 rounds each: 0.5 and 0.75 a round
    (found,) = HeldState().judge(Facts(own, conditions={HELD: held}))
    assert isinstance(found, Finding)
    assert found.estimate.value == pytest.approx(1.5)
    assert list(HeldState().judge(Facts(held, conditions={HELD: own}))) == []


@pytest.mark.parametrize("kept", [(0.7, 0.6, 0.8), (1.0, 1.0, 1.0), (1.05, 0.99, 1.1)])
def test_a_held_state_that_gives_no_more_for_sure_is_not_noted(kept: tuple[float, float, float]) -> None:
    assert judged(kept) == []


def test_seven_prompts_no_ratio_or_no_such_condition_keep_it_quiet() -> None:
    assert judged((1.2, 1.1, 1.3), prompts=7) == []
    assert list(HeldState().judge(Facts(ratios={HELD: Absent("it failed")}))) == []
    assert list(HeldState().judge(Facts())) == []
