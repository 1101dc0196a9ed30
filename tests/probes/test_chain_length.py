"""All prompts of a story are alike unless it says otherwise, so an interval is a point and every threshold is met by hand.

With 80 of 100 fresh guesses right and 72 forced ones at depth 2, the hand-off costs 8 / 80 = 10%; compounding at depth 4 is what goes
beyond: (80 - forced) / 80 - 10%.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from driftcli.codes import BY_NAME
from driftcli.domain import Finding, Open, RunSpec, Severity, Skipped, Sound, Sourced
from driftcli.statistics.costs import Costs, StepCosts
from driftcli.testing import Facts, Head, compute_probe, pair_card
from probes.chain_length import DEEPER, POST_NORM, ChainLength

GROWN, MODERATE = (1, 1.2, 1.4, 1.6), (80, 72, 64, 56)


def judged(story: Head, **pair: str) -> list[Finding | Skipped]:
    return list(ChainLength().judge(Facts(story, pair_card(**pair))))


def findings(story: Head, **pair: str) -> dict[str, Finding]:
    return {item.code: item for item in judged(story, **pair) if isinstance(item, Finding)}


def only_skip(story: Head, **pair: str) -> Skipped:
    (item,) = judged(story, **pair)
    assert isinstance(item, Skipped)
    return item


# ---- drift


def test_a_collapse_without_a_mechanism_is_still_severe() -> None:
    found = findings(Head(forced=(80, 72, 4, 2)))
    assert found.keys() == {"EXPOSURE-GAP", "DEPTH-COLLAPSE"}
    assert {finding.severity for finding in found.values()} == {"severe"}


def test_given_replies_are_judged_for_drift_but_not_for_capacity() -> None:
    story = Head(
        fresh=(20, 20, 20, 20), forced=(20, 18, 14, 10), growth=GROWN, kept=(40, 41, 41, 41)
    )  # 0.8 and 1.03 drafts a round at 1 and 2
    own, given = (list(ChainLength().judge(Facts(story, chosen=share))) for share in (1.0, 0.98))
    assert [item.code for item in own if isinstance(item, Finding)] == ["DRIFT-STATE", "LOW-CAPACITY"]
    assert [item.code for item in given if isinstance(item, Finding)] == ["DRIFT-STATE"]
    assert [item.axis for item in given if isinstance(item, Skipped)] == ["capacity"]


def test_a_chain_that_only_pays_the_handoff_is_healthy_and_nothing_is_said() -> None:
    assert judged(Head()) == []


def test_a_deeper_chain_is_asked_for_where_the_run_is_shallow_and_the_head_feeds_on_itself() -> None:
    (deep,) = ChainLength().conditions(pair_card(), RunSpec(depth=8))
    assert (deep.settings.depth, deep.controls, deep.free, deep.deeper) == (16, True, True, True)
    for pair, spec in (
        (pair_card(), RunSpec(quick=True)),
        (pair_card(), RunSpec(depth=16)),
        (pair_card(no_recursion="no state"), RunSpec()),
    ):
        assert not ChainLength().conditions(pair, spec)


def test_the_depth_from_which_compounding_counts_is_told_and_what_it_comes_to_deeper_down() -> None:
    deep = Head(fresh=(80,) * 6, forced=(80, 72, 72, 60, 40, 20), growth=(1,) * 6, off_prompt=(0,) * 6)
    deep = replace(
        deep, fresh_ahead=(0,) * 6, forced_ahead=(0,) * 6, rounds=(50,) * 6, kept=(40,) * 6, log_prob=(-1,) * 6, covered=(100,) * 6
    )
    (said,) = ChainLength().judge(Facts(Head(), conditions={"deep": deep}))
    assert said == Sound("drift", "0% of the accuracy at depth 4 is lost beyond the hand-off (significant from depth 4, 65% at depth 6)")
    drifting = Head(forced=MODERATE, growth=GROWN)
    (found, *_) = ChainLength().judge(Facts(drifting, conditions={"deep": deep}))
    assert isinstance(found, Finding) and found.claim.startswith(
        "20% of the accuracy lost beyond the hand-off (significant from depth 4, 65% at depth 6); the hidden state"
    )
    (alone, *_) = ChainLength().judge(Facts(drifting))
    assert isinstance(alone, Finding) and alone.claim.startswith(
        "20% of the accuracy lost beyond the hand-off (significant from depth 3); the hidden state"
    )


@pytest.mark.parametrize(
    ("right_at_the_end", "compounding", "severity"),
    [(64, 0.10, "mild"), (56, 0.20, "moderate"), (40, 0.40, "severe")],  # 16/80 - 10%, 24/80 - 10%, 40/80 - 10%
)
def test_damage_and_a_growing_state_are_drift_of_the_state(right_at_the_end: int, compounding: float, severity: Severity) -> None:
    found = findings(Head(forced=(80, 72, 68, right_at_the_end), growth=GROWN))
    assert found.keys() == {"DRIFT-STATE"}
    assert found["DRIFT-STATE"].severity == severity
    assert found["DRIFT-STATE"].estimate.value == pytest.approx(1.6)
    lost = f"{compounding:.0%} of the accuracy lost beyond the hand-off (significant from depth 4)"
    assert found["DRIFT-STATE"].claim == f"{lost}; the hidden state is 1.6x [1.6, 1.6] the target-fed one"


def test_damage_and_attention_leaving_the_prompt_are_drift_of_attention() -> None:
    found = findings(Head(forced=MODERATE, off_prompt=(0, 5, 10, 20)))
    assert found.keys() == {"DRIFT-ATTENTION"}
    assert found["DRIFT-ATTENTION"].severity == "moderate"
    assert (
        found["DRIFT-ATTENTION"].claim
        == "20% of the accuracy lost beyond the hand-off (significant from depth 3); attention to the prompt -20 points [-20, -20]"
    )


def test_damage_and_attention_gathering_on_its_own_drafts_are_drift_of_attention() -> None:
    found = findings(Head(forced=MODERATE, forced_ahead=(0, 10, 20, 30)))  # the control puts 15 there
    assert (
        found["DRIFT-ATTENTION"].claim
        == "20% of the accuracy lost beyond the hand-off (significant from depth 3); attention to its own draft tokens +15 points [+15, +15]"
    )


def test_both_mechanisms_are_named_where_both_moved() -> None:
    assert findings(Head(forced=MODERATE, growth=GROWN, off_prompt=(0, 5, 10, 20))).keys() == {"DRIFT-STATE", "DRIFT-ATTENTION"}


def test_growth_without_damage_is_no_drift() -> None:
    assert judged(Head(growth=(1, 2, 3, 4), off_prompt=(0, 10, 20, 30))) == []


def test_a_healthy_head_that_looks_at_its_drafts_as_much_as_its_control_does_is_not_accused() -> None:
    along = (0, 15, 30, 45)
    assert judged(Head(fresh_ahead=along, forced_ahead=along)) == []


def test_damage_with_attention_that_moves_equally_in_the_control_has_no_mechanism() -> None:
    along = (0, 15, 30, 45)
    story = Head(forced=MODERATE, fresh_ahead=along, forced_ahead=along)
    found = findings(story)
    assert found.keys() == {"EXPOSURE-GAP"}
    (skip,) = [item for item in judged(story) if isinstance(item, Skipped)]
    assert (skip.axis, skip.state) == ("drift", "inconclusive")  # damage is never a clean bill
    assert found["EXPOSURE-GAP"].severity == "moderate"
    assert BY_NAME["EXPOSURE-GAP"].axis == "capacity"
    assert found["EXPOSURE-GAP"].estimate.value == pytest.approx(0.2)


@pytest.mark.parametrize("family", ["assistant", "feed-forward"])
def test_of_a_chain_without_keys_of_its_own_the_state_alone_is_a_mechanism(family: str) -> None:
    keyless = replace(pair_card(), family=family)
    moved = Head(forced=MODERATE, off_prompt=(0, 5, 10, 20), forced_ahead=(0, 10, 20, 30))
    found = compute_probe(ChainLength(), head=moved, pair=keyless).findings
    assert found.keys() == {"EXPOSURE-GAP"}
    assert "the RMS of the hidden state does not move, and it has no keys of its own" in found["EXPOSURE-GAP"].claim
    grown = replace(moved, growth=GROWN)
    assert compute_probe(ChainLength(), head=grown, pair=keyless).findings.keys() == {"DRIFT-STATE"}


def test_a_deeper_chain_is_asked_of_a_head_that_is_run_again_alone() -> None:
    spec, heads = RunSpec(depth=4), replace(pair_card(), family="feed-forward", record={"heads": Sourced(4, "tensor")})
    assert [one.settings.depth for one in ChainLength().conditions(replace(pair_card(), family="assistant"), spec)] == [16]
    assert heads.deepest == 4 and ChainLength().conditions(heads, spec) == ()


@pytest.mark.parametrize("change", [{"growth": (1, 1.05, 1.1, 1.19)}, {"off_prompt": (0, 1, 2, 4)}, {"forced_ahead": (0, 6, 12, 19)}])
def test_a_mechanism_below_its_minimum_does_not_make_damage_drift(change: dict[str, tuple[float, ...]]) -> None:
    assert findings(replace(Head(forced=MODERATE), **change)).keys() == {"EXPOSURE-GAP"}


def test_a_mechanism_whose_interval_straddles_its_minimum_does_not_make_damage_drift() -> None:
    assert only_skip(Head(forced=MODERATE, growth=((1, 1, 1, 1.0), (1, 1, 1, 1.5)))).state == "inconclusive"  # 1.25 on average


def test_attention_that_returns_to_the_prompt_is_no_mechanism() -> None:
    assert findings(Head(forced=MODERATE, off_prompt=(0, -5, -10, -20))).keys() == {"EXPOSURE-GAP"}


def test_damage_below_five_percent_is_healthy() -> None:
    assert judged(Head(forced=(80, 72, 71, 69), growth=GROWN)) == []  # 11/80 - 10% = 3.75%


def test_damage_whose_interval_straddles_five_percent_is_inconclusive_and_says_so() -> None:
    skip = only_skip(Head(forced=((80, 72, 72, 72), (80, 72, 64, 56)), growth=GROWN))  # half the prompts at 0%, half at 20%
    assert (skip.axis, skip.state) == ("drift", "inconclusive")
    assert skip.reason.startswith("10% [3%, 17%] of the accuracy at depth 4 is lost beyond the hand-off, which straddles the 5%")
    assert "which straddles the 5% from which it counts" in skip.reason


def test_damage_that_is_not_shown_is_left_open_while_it_cannot_be_moderate_and_undecided_where_it_can() -> None:
    (few,) = judged(Head(forced=((80, 72, 72, 76), (80, 72, 72, 66))))  # -5% and 7.5%
    assert isinstance(few, Open) and few.axis == "drift"
    assert few.bound is not None and 0.0 < few.bound < 0.15
    skip = only_skip(Head(forced=((80, 72, 72, 100), (80, 72, 72, 44))))  # -35% and 35%
    assert (skip.axis, skip.state) == ("drift", "inconclusive")


def test_seven_prompts_are_too_few_for_any_verdict() -> None:
    skips = judged(Head(forced=MODERATE, growth=GROWN, prompts=7))
    assert [(skip.axis, skip.state) for skip in skips if isinstance(skip, Skipped)] == [
        ("drift", "inconclusive"),
        ("capacity", "inconclusive"),
    ]
    assert skips[0].reason == "7 prompts with a chain, at least 8 are needed"  # type: ignore[union-attr]


def test_eight_prompts_are_enough() -> None:
    assert findings(Head(forced=MODERATE, growth=GROWN, prompts=8)).keys() == {"DRIFT-STATE"}


def test_a_drafter_without_recursion_is_not_applicable_with_its_reason_whatever_its_numbers() -> None:
    skip = only_skip(Head(forced=MODERATE, growth=GROWN), no_recursion="it hands on no state")
    assert skip == Skipped("drift", "not applicable", "it hands on no state")


def test_a_chain_of_two_cannot_compound() -> None:
    short = Head((80, 80), (80, 40), (1, 3), (0, 5), (0, 50), (0, 40), (50, 40), (40, 40))
    assert "no loss can compound over 2 draft tokens" in only_skip(short).reason


def test_with_hardly_a_right_fresh_guess_there_is_nothing_to_lose() -> None:
    skip = only_skip(Head(fresh=(80, 40, 20, 9), forced=(80, 30, 10, 2), growth=GROWN))
    assert skip == Skipped(
        "drift", "inconclusive", "only 9% of the draft tokens are right on the target's hidden state, too few to lose any"
    )


def test_no_right_fresh_guess_at_all_gives_no_number_and_no_verdict() -> None:
    assert only_skip(Head(fresh=(80, 0, 80, 80), forced=(80, 0, 40, 40))).state == "inconclusive"  # no hand-off to compare with


# ---- collapse


def test_the_collapse_is_named_at_the_first_depth_from_which_more_than_half_is_lost() -> None:
    found = findings(Head(forced=(80, 72, 36, 32), growth=GROWN))["DEPTH-COLLAPSE"]  # lost 10%, 55%, 60%
    assert found.claim == "from depth 3 on more than 50% of the accuracy is lost to self-feeding (55% there)"
    assert found.fix == "heal it (driftcli heal), or retrain with a deeper unroll"
    assert found.severity == "severe"  # that of the drift: 60% - 10%


def test_a_loss_of_just_half_is_no_collapse() -> None:
    assert "DEPTH-COLLAPSE" not in findings(Head(forced=(80, 72, 56, 40), growth=GROWN))


def test_a_depth_that_recovers_is_no_collapse() -> None:
    assert "DEPTH-COLLAPSE" not in findings(Head(forced=(80, 72, 36, 48), growth=GROWN))  # lost 10%, 55%, 40%


def test_a_handoff_that_loses_more_than_half_is_a_collapse_from_the_second_token_on() -> None:
    found = findings(Head(forced=(80, 36, 28, 20), growth=GROWN))["DEPTH-COLLAPSE"]  # lost 55%, 65%, 75%
    assert found.claim.startswith("from depth 2 on")


# ---- advice


def test_no_finding_rests_on_the_times_of_steps() -> None:
    story = Head(forced=(80, 36, 28, 20), growth=GROWN, rounds=(50, 40, 40, 40), kept=(40, 76, 78, 80), prompts=16)
    timings = [None, *(Costs("by hand", 100, (StepCosts(1, 0.0, 0.0, verify),)) for verify in ((1.0,) * 5, (1.0, 1.5, 2.5, 4.0, 5.0)))]
    first, *others = [list(ChainLength().judge(Facts(story, costs=costs))) for costs in timings]
    assert all(other == first for other in others)
    assert {one.fix for one in first if isinstance(one, Finding)} == {
        f"heal it (driftcli heal), or retrain with {what}" for what in (DEEPER, POST_NORM)
    }


def test_a_head_that_feeds_normed_states_is_not_told_to_become_one() -> None:
    fix = findings(Head(forced=MODERATE, growth=GROWN), feedback="normed")["DRIFT-STATE"].fix
    assert "deeper unroll" in fix
    assert "post-norm" not in fix


# ---- capacity


@pytest.mark.parametrize(("first", "severity"), [(45, "mild"), (30, "moderate"), (15, "severe")])
def test_a_first_guess_that_is_often_wrong_is_low_capacity(first: int, severity: Severity) -> None:
    found = findings(Head(fresh=(first,) * 4, forced=(first,) * 4))
    assert found.keys() == {"LOW-CAPACITY"}
    assert found["LOW-CAPACITY"].severity == severity
    assert (
        found["LOW-CAPACITY"].claim
        == f"the first draft token is right {first}% [{first}%, {first}%] of the time, on the target's hidden state"
    )


def test_a_first_guess_right_half_the_time_is_not_low_capacity() -> None:
    assert judged(Head(fresh=(51,) * 4, forced=(51, 51, 50.9, 50.8))) == []


def test_a_first_guess_astride_the_limit_is_inconclusive() -> None:
    skip = only_skip(Head(fresh=((40,) * 4, (58,) * 4), forced=((40, 40, 39.9, 39.8), (58, 58, 57.9, 57.8))))
    assert (skip.axis, skip.state) == ("capacity", "inconclusive")


def test_the_capacity_of_a_head_is_not_judged_on_replies_that_are_drawn() -> None:
    *_, skip = ChainLength().judge(Facts(Head(fresh=(45,) * 4, forced=(45,) * 4), temperature=0.7))
    assert isinstance(skip, Skipped) and (skip.axis, skip.state) == ("capacity", "not applicable")
    assert skip.reason.startswith("replies are drawn at temperature 0.7, where not even the target's first choice is always right")


def test_the_capacity_of_a_drafter_without_recursion_is_judged_without_speaking_of_states() -> None:
    found = findings(Head(fresh=(45,) * 4, forced=(45,) * 4), no_recursion="it hands on no state")
    assert found["LOW-CAPACITY"].claim == "the first draft token is right 45% [45%, 45%] of the time"


def test_every_finding_counts_prompts_and_bears_a_known_code_of_an_axis_that_the_probe_judges() -> None:
    found = findings(Head(fresh=(45,) * 4, forced=(45, 40, 15, 10), growth=GROWN, off_prompt=(0, 5, 10, 20), prompts=12))
    assert found.keys() == {"DRIFT-STATE", "DRIFT-ATTENTION", "DEPTH-COLLAPSE", "LOW-CAPACITY"}
    assert {finding.estimate.n_prompts for finding in found.values()} == {12}
    assert {BY_NAME[code].axis for code in found} == set(ChainLength().axes)


def test_a_grade_is_no_higher_than_the_whole_interval_supports() -> None:
    near = Head(forced=((80, 72, 56, 40), (80, 72, 48, 36)), growth=GROWN)  # 40% in half of the prompts, 45% in the others
    assert findings(near)["DRIFT-STATE"].severity == "severe"
    wide = Head(forced=((80, 72, 68, 60), (80, 72, 48, 20)), growth=GROWN)  # 15% and 65%: 40% on average, the low end far under 35%
    found = findings(wide)["DRIFT-STATE"]
    assert found.claim.startswith("40% of the accuracy lost beyond the hand-off")
    assert found.severity == "moderate"
