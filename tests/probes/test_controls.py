from __future__ import annotations

from dataclasses import replace

import pytest

from driftcli.conditions import TextSettings
from driftcli.domain import Absent, Estimate, Finding, RunSpec, Said, Skipped, Withheld
from driftcli.testing import Facts, Head, pair_card
from probes.controls import REPEATED, Controls

PROBE = Controls()


def said(story: Head, **ratios: Estimate | Absent) -> list[Said]:
    """What is said of a run, in which the named conditions keep these shares of the accepted drafts."""
    named = {name.replace("_", "-"): share for name, share in ratios.items()}
    return list(PROBE.judge(Facts(story, ratios=named, conditions=dict.fromkeys(named, story))))


def codes(found: list[Said]) -> list[str]:
    return [one.code for one in found if isinstance(one, Finding)]


def test_the_shuffled_prompt_and_the_repeated_subset_are_asked_for_unless_the_run_is_quick() -> None:
    shuffled, repeated = PROBE.conditions(pair_card(), RunSpec())
    assert shuffled.text == TextSettings(shuffled=True, replayed=True)
    assert (repeated.text, repeated.prompts) == (TextSettings(alone=True), REPEATED)
    assert not PROBE.conditions(pair_card(), RunSpec(quick=True))


def test_a_sound_head_is_left_alone() -> None:
    assert not said(Head())
    assert not said(Head(), shuffled_prompt=Estimate(0.7, 0.6, 0.8, 10), repeated=Estimate(1.0, 1.0, 1.0, 10))


def test_a_head_no_better_than_the_most_frequent_token_is_broken_and_neither_drift_nor_capacity_is_judged() -> None:
    found, *withheld = said(Head(forced=(5, 5, 5, 5), favourite=(5, 6, 4)))
    assert isinstance(found, Finding)
    assert (found.code, found.severity) == ("LOAD-BROKEN", "miswired")
    assert found.claim.startswith("the first draft token is right 5.0% of the time, the most frequent token alone 5")
    assert [one.axis for one in withheld if isinstance(one, Withheld)] == ["drift", "capacity"]


def test_a_head_that_may_be_better_than_the_floor_is_undecided() -> None:
    (undecided,) = said(Head(forced=[(4, 4, 4, 4), (30, 4, 4, 4)], favourite=(10, 20)))
    assert isinstance(undecided, Skipped) and (undecided.axis, undecided.state) == ("wiring", "inconclusive")
    assert "trained for exactly these weights" in undecided.fix


def test_a_lookup_that_keeps_as_many_drafts_is_named() -> None:
    (found,) = said(Head(rounds=(50, 50, 50, 50), kept=(10, 10, 10, 10), looked_up=(30, 20)))
    assert isinstance(found, Finding) and found.code == "LOOKUP-ENOUGH"
    assert found.claim.startswith(
        "a lookup of the last one to three tokens in the text so far gets 0.25 draft tokens a round accepted, the drafter 0.20, a difference of -0.05 [-0."
    )
    assert "a lookup of five tokens, vLLM's default, gets 0.25" in found.claim
    assert '"prompt_lookup_min": 1, "prompt_lookup_max": 3' in found.fix


@pytest.mark.parametrize(
    ("kept", "found"),
    [((0.99, 0.96, 1.02), ["PROMPT-UNUSED"]), ((0.97, 0.96, 0.99), ["PROMPT-UNUSED"]), ((0.99, 0.94, 1.02), []), ((0.9, 0.5, 1.3), [])],
)
def test_a_head_that_guesses_as_well_behind_a_shuffled_prompt_reads_the_reply_alone(
    kept: tuple[float, float, float], found: list[str]
) -> None:
    assert codes(said(Head(), shuffled_prompt=Estimate(*kept, 10))) == found


@pytest.mark.parametrize(
    ("choices", "kept", "found"),
    [
        (100, (1.0, 1.0, 1.0), []),
        (99.5, (1.01, 0.97, 1.04), []),
        (98, (1.0, 1.0, 1.0), ["NONDETERMINISM"]),
        (100, (1.02, 0.9, 1.1), []),  # it may move by as much, and nothing shows that it does
        (100, (0.97, 0.95, 0.99), []),
        (100, (0.93, 0.9, 0.97), ["NONDETERMINISM"]),
    ],
)
def test_what_moves_when_the_same_is_run_again_is_named_with_its_size(
    choices: float, kept: tuple[float, float, float], found: list[str]
) -> None:
    again = said(Head(own_choices=choices), repeated=Estimate(*kept, 10))
    assert codes(again) == found
    if found:
        assert isinstance(again[0], Finding)
        assert f"would choose {choices:.1f}% of their tokens; with 10 replies written one by one {kept[0]:.0%}" in again[0].claim


def test_replies_that_are_drawn_are_not_written_again_nor_expected_to_be_first_choices() -> None:
    (shuffled,) = PROBE.conditions(pair_card(), RunSpec(temperature=0.7))
    assert shuffled.name == "shuffled-prompt"
    assert codes(list(PROBE.judge(Facts(Head(own_choices=70))))) == ["NONDETERMINISM"]
    assert not list(PROBE.judge(Facts(Head(own_choices=70), temperature=0.7)))


def test_acceptance_that_loops_carry_is_named_at_its_size() -> None:
    (found,) = said(Head(loops=30, calm=(30, 18)))  # 1.0 drafts a round in all, 0.6 elsewhere
    assert isinstance(found, Finding)
    assert (found.code, found.severity) == ("REPETITION-INFLATED", "severe")
    assert found.claim.startswith(
        "at 30% of the positions the reply repeats itself: 1.00 accepted draft tokens a round, 0.60 elsewhere, so 40%"
    )
    assert not said(Head(loops=5, calm=(38, 37.5)))


def test_too_few_prompts_and_foreign_replies_decide_nothing() -> None:
    assert not said(Head(forced=(5, 5, 5, 5), prompts=7))
    assert not list(PROBE.judge(replace(Facts(Head(forced=(5, 5, 5, 5))), chosen=0.5)))
