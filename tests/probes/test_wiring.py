from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from driftcli.conditions import DraftSettings, Wiring
from driftcli.domain import Finding, Open, PairCard, RunSpec, Skipped, Sound, Sourced, Withheld
from driftcli.testing import Facts, Head, pair_card
from probes.wiring import WiringSearch

SEARCH = WiringSearch()
OPEN = (Wiring(capture=(3, 5, 6)), Wiring(feedback="normed"), Wiring(rope="default"))
ORDERS = ("2-5-4", "4-2-5", "4-5-2", "5-2-4", "5-4-2")
FIRST_ROUND = ("wiring-capture-3-5-6", "wiring-feedback-normed", "wiring-rope-default", *(f"wiring-capture-{order}" for order in ORDERS))
AS_DECLARED, WORSE = (-100.0, -200.0, -200.0, -200.0), (-150.0, -250.0, -250.0, -250.0)


def pair(alternatives: Sequence[Wiring] = OPEN, **fields: Sourced) -> PairCard:
    base = pair_card()
    return replace(base, record={**base.record, "capture": Sourced((2, 4, 5), "default:vLLM"), **fields}, alternatives=tuple(alternatives))


def trace(
    better: Mapping[str, Sequence[float] | Sequence[Sequence[float]]], names: Sequence[str] = FIRST_ROUND, prompts: int = 16
) -> Facts:
    """A run in which every wiring does worse than the declared one but for those in `better`, by log-probability of 100 tokens at each depth."""
    told = {name: Head(log_prob=better.get(name, WORSE), prompts=prompts) for name in dict.fromkeys([*names, *better])}
    return Facts(Head(log_prob=AS_DECLARED, prompts=prompts), pair(), conditions=told)


def test_the_first_round_asks_for_what_is_open_and_every_order_of_the_streams() -> None:
    asked = SEARCH.conditions(pair(), RunSpec(depth=8))
    assert tuple(condition.name for condition in asked) == FIRST_ROUND
    assert {condition.settings.depth for condition in asked} == {2}
    assert asked[0].settings == DraftSettings(2, wiring=Wiring(capture=(3, 5, 6)))


def test_a_chain_of_one_cannot_show_the_feedback_and_a_causal_lm_has_nothing_open() -> None:
    assert "wiring-feedback-normed" not in {condition.name for condition in SEARCH.conditions(pair(), RunSpec(depth=1))}
    assert SEARCH.conditions(pair_card(no_recursion="no state"), RunSpec()) == ()
    (said,) = SEARCH.judge(Facts(pair=pair_card(no_recursion="no state")))
    assert isinstance(said, Skipped) and said.state == "not applicable"


def test_a_sound_head_is_left_as_declared_and_the_closest_other_is_named() -> None:
    run = trace({"wiring-rope-default": (-105, -200, -200, -200)})
    assert SEARCH.further(run) == ()
    assert SEARCH.wiring(run) == Wiring()
    (said,) = SEARCH.judge(run)
    reason = "none of 8 alternatives is shown to fit the weights better; the closest, the default rotation: -0.05 nats a token [-0.05, -0.05] (16 prompts)"
    assert said == Sound("wiring", reason)


def test_a_wiring_that_fits_better_is_taken_over_and_the_next_round_starts_from_it() -> None:
    shifted = {"wiring-capture-3-5-6": (-40, -140, -140, -140)}
    more = SEARCH.further(trace(shifted))
    assert "wiring-capture-3-5-6+feedback-normed" in {condition.name for condition in more}
    assert "wiring-capture-6-5-3" in {condition.name for condition in more}
    assert all(condition.settings.wiring.capture is not None for condition in more)
    run = trace(shifted, [*FIRST_ROUND, *(condition.name for condition in more)])
    assert SEARCH.further(run) == ()
    assert SEARCH.wiring(run) == Wiring(capture=(3, 5, 6))
    (found,) = SEARCH.judge(run)
    assert isinstance(found, Finding)
    assert (found.code, found.severity, found.condition) == ("AUX-LAYERS", "miswired", "wiring-capture-3-5-6")
    assert (
        found.claim
        == "the weights fit hidden states captured at boundaries 3, 5, 6 better than what is declared: +0.60 nats a token [+0.60, +0.60] (8 prompts)"
    )


def test_two_faults_are_found_one_after_the_other() -> None:
    both = {"wiring-capture-3-5-6": (-40, -140, -140, -140), "wiring-capture-3-5-6+feedback-normed": (-40, -60, -60, -60)}
    second = SEARCH.further(trace(both))
    third = SEARCH.further(run := trace(both, [*FIRST_ROUND, *(condition.name for condition in second)]))
    assert {condition.name for condition in third} <= {
        f"wiring-capture-{one}+feedback-normed" for one in ("3-6-5", "5-3-6", "5-6-3", "6-3-5", "6-5-3")
    } | {"wiring-capture-3-5-6+feedback-normed+rope-default"}
    run = trace(both, [*run.conditions, *(condition.name for condition in third)])
    assert SEARCH.wiring(run) == Wiring(capture=(3, 5, 6), feedback="normed")
    assert [item.code for item in SEARCH.judge(run) if isinstance(item, Finding)] == ["AUX-LAYERS", "FEEDBACK-MODE"]


def test_the_feedback_is_judged_at_depth_two_alone() -> None:
    only_first = trace({"wiring-feedback-normed": (-40, -250, -250, -250)})
    assert SEARCH.wiring(only_first) == Wiring()
    only_second = trace({"wiring-feedback-normed": (-150, -150, -250, -250)})
    assert SEARCH.further(only_second)[0].settings.wiring.feedback == "normed"


def test_what_helps_the_prompts_that_select_and_not_those_that_judge_is_not_taken_over_but_open() -> None:
    lucky = trace({"wiring-rope-default": ((-40, -200, -200, -200), (-120, -200, -200, -200))})  # rows are dealt over the prompts in turn
    assert SEARCH.wiring(lucky) == Wiring()
    (said,) = SEARCH.judge(lucky)
    assert isinstance(said, Open) and said.unit == "nats a token" and said.bound == pytest.approx(0.42, abs=0.02)
    assert said.reason.startswith("the default rotation may fit the weights better: +0.20 nats a token [-0.0")
    assert said.fix.startswith("settle the wiring first: check what the head was trained with") and "correct rope_theta" in said.fix


def test_a_gain_too_small_to_count_is_none_though_its_interval_reaches_further() -> None:
    small = trace({"wiring-rope-default": ((-50, -200, -200, -200), (-148, -200, -200, -200))})
    (said,) = SEARCH.judge(small)
    assert isinstance(said, Sound) and "the default rotation: +0.01 nats a token [-0." in said.reason


def test_what_the_halves_leave_open_and_all_prompts_show_is_undecided_and_comes_before_any_other_advice() -> None:
    astride = [(-60, -200, -200, -200), (-100, -200, -200, -200), (-92, -200, -200, -200), (-100, -200, -200, -200)]
    (said,) = SEARCH.judge(trace({"wiring-rope-default": astride}))
    assert isinstance(said, Skipped) and said.state == "inconclusive"
    assert said.reason.startswith("the default rotation may fit the weights better: +0.12 nats a token [+0.0")
    assert said.reason.endswith("more prompts would tell")
    assert said.fix.startswith("settle the wiring first") and "correct rope_theta" in said.fix


def test_gains_of_one_that_earn_likelihood_and_no_right_guesses_are_no_better_fit() -> None:
    flatter, better = (Head(log_prob=(-40, -140, -140, -140), forced=(first, 72, 72, 72), prompts=16) for first in (78, 85))
    run = replace(trace({}), pair=pair([*OPEN, Wiring(ones="final")]))
    assert SEARCH.wiring(replace(run, conditions={**run.conditions, "wiring-ones-final": flatter})) == Wiring()
    more = SEARCH.further(replace(run, conditions={**run.conditions, "wiring-ones-final": better}))
    assert more and all(condition.settings.wiring.ones == "final" for condition in more)


def test_a_gain_that_one_half_misses_by_its_spread_is_found_where_all_prompts_show_it_for_all_changes_at_once() -> None:
    spread = [(-20, -200, -200, -200), (-60, -200, -200, -200), (-30, -200, -200, -200), (-130, -200, -200, -200)]
    run = trace({"wiring-rope-default": spread}, prompts=60)
    assert SEARCH.wiring(run) == Wiring(rope="default")


def test_a_head_that_knows_nothing_gains_nothing_by_being_less_sure() -> None:
    flatter = Head(log_prob=(-40, -140, -140, -140), forced=(5, 5, 5, 5), prompts=16)
    run = trace({})
    run = replace(run, conditions={**run.conditions, "wiring-rope-default": flatter})
    assert SEARCH.wiring(run) == Wiring()
    (said,) = SEARCH.judge(run)
    assert isinstance(said, Sound)


def test_a_map_of_zeros_is_lost_unless_the_head_guesses_well_by_it() -> None:
    zeros = pair(vocab_map=Sourced("zeros", "tensor"))
    lost = replace(trace({}), pair=zeros, head=Head(forced=(5, 5, 5, 5), log_prob=AS_DECLARED, prompts=16))
    found = [item for item in SEARCH.judge(lost) if isinstance(item, Finding)]
    assert [(one.code, one.severity) for one in found] == [("VOCAB-MAP", "miswired")]
    assert "the map is lost" in found[0].claim
    assert not any(isinstance(item, Finding) for item in SEARCH.judge(replace(trace({}), pair=zeros)))


def test_fifteen_prompts_are_too_few_for_two_halves() -> None:
    run = trace({"wiring-capture-3-5-6": (-40, -140, -140, -140)}, prompts=15)
    assert SEARCH.wiring(run) == Wiring()
    (said,) = SEARCH.judge(run)
    assert isinstance(said, Skipped) and "15 prompts with a chain, at least 16 are needed" in said.reason


def test_a_map_is_judged_by_right_guesses() -> None:
    run = trace({"wiring-vocabulary-absolute": WORSE})
    run = replace(
        run,
        pair=pair([*OPEN, Wiring(vocabulary="absolute")]),
        conditions={**run.conditions, "wiring-vocabulary-absolute": Head(forced=(95, 72, 72, 72), log_prob=WORSE, prompts=16)},
    )
    assert SEARCH.further(run)[0].settings.wiring.vocabulary == "absolute"


@pytest.mark.parametrize(
    ("kind", "what", "fix"), [("absolute", "holds target ids", "as offsets"), ("from t2d", "the map is lost", "from t2d")]
)
def test_a_map_that_no_server_reads_so_is_a_finding_though_it_was_read_as_meant(kind: str, what: str, fix: str) -> None:
    run = replace(trace({}), pair=pair(vocab_map=Sourced(kind, "tensor")))
    found, _ = SEARCH.judge(run)
    assert isinstance(found, Finding)
    assert (found.code, found.severity) == ("VOCAB-MAP", "miswired")
    assert what in found.claim and "read so the first draft token is right 80% of the time" in found.claim and fix in found.fix


def test_gains_that_are_all_one_are_named_and_drift_is_withheld() -> None:
    run = replace(trace({}), pair=pair(norm_gains=Sourced("all exactly 1", "tensor")))
    found, withheld, _ = SEARCH.judge(run)
    assert isinstance(found, Finding) and isinstance(withheld, Withheld)
    assert (found.code, found.severity, withheld.axis) == ("NORM-MISMATCH", "mild", "drift")


@pytest.mark.parametrize(
    ("wiring", "name"), [(Wiring(capture=(2, 4)), "capture-2-4"), (Wiring(rope="target's", head="target's"), "rope-target+head-target")]
)
def test_a_wirings_name_is_fit_for_a_file(wiring: Wiring, name: str) -> None:
    assert str(wiring) == name


@pytest.mark.parametrize(
    ("wiring", "code", "words", "fix"),
    [
        (Wiring(eps=1e-05), "NORM-MISMATCH", "norms with 1e-05 beside the mean square", "set rms_norm_eps"),
        (Wiring(bias="left out"), "LOAD-BROKEN", "scores without a bias by the token before", "export markov_head again"),
    ],
)
def test_norms_of_another_number_and_a_bias_that_only_harms_are_named_and_else_left_alone(
    wiring: Wiring, code: str, words: str, fix: str
) -> None:
    def judged(log_prob: Sequence[float]) -> list[object]:
        names = [f"wiring-{wiring}", *(f"wiring-capture-{order}" for order in ORDERS)]
        told = {name: Head(log_prob=log_prob if name == f"wiring-{wiring}" else WORSE, prompts=16) for name in names}
        return list(SEARCH.judge(Facts(Head(log_prob=AS_DECLARED, prompts=16), pair([wiring]), conditions=told)))

    found = judged((-40, -140, -140, -140))[0]
    assert isinstance(found, Finding) and found.code == code
    assert words in found.claim and found.fix is not None and found.fix.startswith(fix)
    (sound,) = judged((-105, -205, -205, -205))
    assert isinstance(sound, Sound) and words in sound.reason
