from __future__ import annotations

from dataclasses import replace

import pytest

from driftcli.conditions import BASELINE, Condition, DraftSettings, Plan, StopRule, Wiring
from driftcli.domain import Estimate, Finding, RunSpec, Skipped, Sound
from driftcli.mitigations.early_stop import EarlyStop
from driftcli.mitigations.probe import MITIGATIONS, TOGETHER, Mitigations, outcomes
from driftcli.testing import Facts, pair_card
from tests.mitigations.planned_trace import CHEAP, DEAR, DEPTH, planned

SPEC = RunSpec(depth=DEPTH)
EVERYTHING = frozenset({BASELINE, *(one.name for one in Mitigations().conditions(pair_card(), SPEC))})
GOOD = (70, 110, 130, 140)  # kept on 100 rounds by draft length


def lengths(kept: tuple[float, ...], reference: str = BASELINE) -> dict:
    return {Plan(reference, drafts): count for drafts, count in enumerate(kept, 1)}


def said(trace: Facts) -> object:
    (only,) = Mitigations().judge(trace)
    return only


def test_speculation_that_is_slower_than_none_at_its_best_is_not_worth_it() -> None:
    found = said(planned(lengths(GOOD), step_costs=DEAR))  # at draft 1: 1.7 tokens in 3 steps' time
    assert isinstance(found, Finding)
    assert (found.code, found.severity, found.fix) == ("NO-PAYOFF", "severe", "turn speculation off at this batch size")
    assert found.estimate.value == pytest.approx(1.7 / 3)
    assert "at draft length 1, the best at batch 1; slower than plain decoding even if every draft token were accepted" in found.claim


def test_speculation_that_is_faster_is_sound_and_says_by_how_much() -> None:
    found = said(planned(lengths(GOOD), step_costs=CHEAP))
    assert isinstance(found, Sound)
    assert found.reason.startswith("1.77x [1.77, 1.77] the speed of plain decoding at draft length 3, the best at batch 1")  # 2.3 / 1.3


def test_a_speed_that_may_be_a_gain_or_a_loss_is_inconclusive() -> None:
    spread = {Plan(BASELINE, 1): [150, 150, 250, 250]}
    found = said(planned(spread, step_costs=replace(DEAR, draft_first=0.0, draft_step=0.0, verify=(1.0, 3.0, 9.0, 9.0, 9.0))))
    assert isinstance(found, Skipped)
    assert "may be a gain or a loss" in found.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"step_costs": None}, "--costs"), ({"chosen": 0.5}, "not the target's own"), ({"prompts": 15}, "15 prompts")],
)
def test_what_cannot_be_judged_says_why(change: dict, reason: str) -> None:
    found = said(planned(lengths(GOOD), **change))
    assert isinstance(found, Skipped)
    assert reason in found.reason


def test_what_helps_alone_is_drafted_together_once() -> None:
    plans = {
        **lengths((100, 100, 100, 100)),
        Plan("chain-bias-1", DEPTH): 150,
        Plan("sink-bias+1", DEPTH): 130,
        Plan("rms-pinned", DEPTH): 300,
    }
    trace = planned(plans, measured=EVERYTHING)
    (together,) = Mitigations().further(trace)
    assert together == Condition(TOGETHER, DraftSettings(DEPTH, chain_bias=-1.0, sink_bias=1.0), "mitigations", free=True)
    done = replace(trace, plans={**plans, **lengths((90, 140, 170, 180), TOGETHER)})
    assert not Mitigations().further(done)
    by_name = {one.trial: one for one in outcomes(done)}
    assert by_name[TOGETHER].helps
    assert by_name["rms-pinned"].helps
    assert by_name["rms-pinned"].kind == "diagnostic"  # so it is in no combination
    assert not by_name["warming"].helps


def test_one_thing_that_helps_needs_no_second_round_and_meets_every_draft_length() -> None:
    plans = {Plan("chain-bias-1", drafts): 100 + 20 * drafts for drafts in range(1, DEPTH + 1)}
    trace = planned(plans, measured=EVERYTHING, step_costs=CHEAP)
    assert not Mitigations().further(trace)
    found = next(one for one in outcomes(trace) if one.trial == TOGETHER)
    assert found.option is not None
    assert found.option.plan.condition == "chain-bias-1"


def test_a_rule_that_ends_chains_is_held_against_the_best_fixed_length() -> None:
    trace = planned(lengths(GOOD), step_costs=CHEAP)
    options = [option for trial in EarlyStop().trials(trace) for option in trial.options]
    assert {option.over for option in options} == {Plan(BASELINE, 3)}
    assert {option.plan.stop.measure for option in options if option.plan.stop} == {"confidence", "entropy", "state", "prompt"}
    assert Plan(BASELINE, DEPTH, StopRule("state", 0.99, 2.01)) in [option.plan for option in options]


def test_a_drafter_without_a_state_is_offered_what_needs_none() -> None:
    trace = planned(pair=pair_card(no_recursion="it has no state"), measured=frozenset({BASELINE, "no-bos"}))
    names = {trial.name for one in MITIGATIONS for trial in one.trials(trace)}
    assert names == {"draft-length", "early-stop-confidence", "early-stop-entropy", "rendering-repair"}
    assert Mitigations().conditions(trace.pair, SPEC) == []


def test_the_held_state_is_a_trial_where_its_probe_drafted_it_and_nobody_is_told_to_serve_it() -> None:
    plans = {Plan("held", DEPTH): 150}
    trace = planned(plans)
    found = next(one for one in outcomes(trace) if one.trial == "held-state")
    assert (found.kind, found.helps) == ("diagnostic", True)
    assert isinstance(found.gain, Estimate)
    assert found.gain.value == pytest.approx(2.5 / 2)
    assert "held-state" not in {one.trial for one in outcomes(planned())}


def test_a_wiring_that_won_is_a_repair_of_the_declared_one() -> None:
    trace = planned(reference="rewired", wiring=Wiring(feedback="normed"), plans={Plan("rewired", DEPTH): 180})
    found = next(one for one in outcomes(trace) if one.trial == "wiring-repair")
    assert found.helps
    assert found.option is not None
    assert found.option.over == Plan(BASELINE, DEPTH)
    assert "norm_output" in found.option.settings["vllm"]
    assert isinstance(found.gain, Estimate)
    assert found.gain.value == pytest.approx(2.8 / 2)


def test_no_condition_is_asked_for_twice_and_quick_asks_for_few() -> None:
    names = [one.name for one in Mitigations().conditions(pair_card(), SPEC)]
    assert len(names) == len(set(names))
    assert len(Mitigations().conditions(pair_card(), replace(SPEC, quick=True))) == 3
