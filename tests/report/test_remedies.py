"""The mitigations of synthetic runs, whose attention conditions were never drafted: draft lengths and rules that end chains are left."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from driftcli.cli.battery import load_battery
from driftcli.codes import BY_NAME
from driftcli.conditions import Plan
from driftcli.domain import AxisVerdict, Estimate, Verdict
from driftcli.mitigations.mitigation import Option
from driftcli.mitigations.trials import Outcome
from driftcli.report import remedies, speeds
from driftcli.report.advice import advice_lines, to_do
from driftcli.report.console import plain
from driftcli.report.json import finding_json
from driftcli.report.json import report as report_json
from driftcli.report.markdown import render as markdown
from driftcli.report.terminal import whole as render
from driftcli.report.verdict import judge
from driftcli.statistics.costs import StepCosts
from driftcli.statistics.payoff import best_length
from driftcli.traces.layout import COSTS_FILE
from driftcli.traces.reader import Run, read_run
from tests.report.conftest import Judged
from tests.report.synthetic import DRIFTING, Life, Recipe

FREE = StepCosts(1, 0.0, 0.0, (1.0,) * 9)  # proposals cost nothing, so that the longest chain is the fastest
CHEAP = StepCosts(1, 0.3, 0.3, (1.0,) * 9)
DEAR = StepCosts(8, 1.0, 1.0, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0))
OFF = "leave out --speculative-config"


def parts(run: Run, verdict: Verdict) -> dict[str, list[str]]:
    return dict(remedies.further_parts(run, verdict, remedies.tried(run)))


def answer(run: Run, verdict: Verdict) -> str:
    return remedies.answer(run, verdict, remedies.tried(run))


def test_where_no_draft_length_pays_the_answer_is_to_turn_speculation_off(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[DEAR]))
    assert "NO-PAYOFF" in [finding.code for finding in verdict.findings]
    assert answer(run, verdict).startswith("Turn speculation off at batch 8:")
    typed = parts(run, verdict)["What to type"]
    assert typed[0] == f"no speculation, vllm 0.33: {OFF}"
    assert not any("num_speculative_tokens" in line for line in typed)  # though draft 1 is faster than draft 8
    assert not any("instead of 8" in line for line in advice_lines(run, verdict, remedies.tried(run)))


def test_where_nothing_helps_the_answer_is_to_heal_or_train_again_as_far_as_a_finding_asks_for_it(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[FREE]))
    assert answer(run, verdict) == "Nothing that was tried at inference helps here: heal it (driftcli heal), or train again."
    (lines,) = parts(run, verdict).values()
    assert lines[0].startswith("feed back the state behind the final norm")
    assert lines[0].endswith("(DRIFT-STATE, DRIFT-ATTENTION)")  # one recipe for both


def test_what_heal_cannot_train_is_sent_to_training_alone(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[FREE]))
    rounds_apart = replace(run, pair=replace(run.pair, family="feed-forward"))
    assert answer(rounds_apart, verdict) == "Nothing that was tried at inference helps here: train again."
    unsettled = {**verdict.axes, "wiring": AxisVerdict("inconclusive", fix="try it")}
    first = "Nothing that was tried at inference helps here: settle the wiring first, then heal it (driftcli heal), or train again."
    assert answer(run, replace(verdict, axes=unsettled)) == first


def test_where_nothing_helps_a_sound_head_it_is_not_sent_to_training(judged: Judged) -> None:
    run, verdict = judged(Recipe(Life(), costs=[FREE], prompts=[f"p{number:02}" for number in range(24)], anchors=200))
    assert answer(run, verdict) == "Nothing that was tried at inference helps here."


def test_where_something_helps_it_is_what_to_type_and_no_answer_stands_above_it(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[CHEAP]))
    assert answer(run, verdict) == ""
    fastest = best_length(run, CHEAP)[0].drafts
    assert 1 <= fastest < 8
    assert any(f'"num_speculative_tokens": {fastest}' in line for line in parts(run, verdict)["What to type"])
    (told, codes), *_ = to_do(run, verdict, remedies.tried(run)).items()
    (gain,) = [one.gain for one in remedies.tried(run) if one.trial == "draft-length"]
    assert told == f"draft length {fastest} instead of 8: {speeds.gain_text(gain)} the speed"
    assert codes == ["measured"]
    assert f"- {told}  (measured)" in plain(render(run, verdict))


def test_batch_sizes_are_told_apart_and_one_where_nothing_pays_drafts_nothing(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[CHEAP, DEAR]))
    fastest = best_length(run, CHEAP)[0].drafts
    typed = parts(run, verdict)["What to type"]
    assert not any(line.startswith("draft length ") for line in typed)  # which the schedule holds already
    (line,) = [line for line in typed if line.startswith("by batch size, vllm")]
    assert f"[[1, 7, {fastest}], [8, 8, 0]]" in line
    told = [line.split(":")[0] for line in speeds.payoff_lines(run) if "the fastest" in line]
    assert told == ["batch 1", "batch 8"]


def test_the_speed_of_every_draft_length_is_that_of_its_acceptance_length(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[CHEAP, DEAR]))
    cheap, dear = report_json(run, verdict)["payoff"]  # type: ignore[misc]
    assert (cheap["batch_size"], dear["batch_size"], dear["advised_draft_length"]) == (1, 8, 0)
    assert dear["best_draft_length"] == 1
    for one, costs in ((cheap, CHEAP), (dear, DEAR)):
        for drafts, row in enumerate(one["by_draft_length"], 1):
            assert row["drafts"] == drafts
            assert row["break_even_length"] == pytest.approx(costs.round_seconds(drafts))  # a plain step takes 1 second
            assert row["speed_up"]["value"] == pytest.approx(row["acceptance_length"]["value"] / costs.round_seconds(drafts))
    length, pays, speed, _, _ = speeds.speed_rows(run)
    assert (length.name, pays.name) == ("acceptance length", "batch 1, break-even")
    assert speeds.speed_rows(run)[3].cells == ["never"] * 8  # a step of 3 plain ones for 2 tokens at most, and so on
    assert [cell.rstrip("x") for cell in speed.cells] == [f"{row['speed_up']['value']:.2f}" for row in cheap["by_draft_length"]]


def test_times_that_cannot_be_give_no_speed_no_advice_and_their_reason(judged: Judged) -> None:
    impossible = StepCosts(1, 0.0, 0.0, (1.0, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7))  # 6.79x at an acceptance length of 3.96, once seen
    run, verdict = judged(Recipe(DRIFTING, costs=[impossible, replace(CHEAP, batch_size=4)]))
    _, second = report_json(run, verdict)["payoff"]  # type: ignore[misc]
    assert second["speed_up"] == {"value": None, "low": None, "high": None, "n_prompts": None, "reason": impossible.doubt}
    assert (
        verdict.axes["payoff"].state == "inconclusive"
        and "no speed is told: a target step over 2 tokens took" in verdict.axes["payoff"].reason
    )
    assert any("no speed is told: a target step over 2 tokens took" in line for line in speeds.payoff_lines(run))


def test_other_times_of_the_same_traces_leave_the_findings_as_they_are(judged: Judged) -> None:
    kept = []
    for costs in (FREE, CHEAP, DEAR):
        _, verdict = judged(Recipe(DRIFTING, costs=[costs]))
        kept.append(json.dumps([finding_json(one) for one in verdict.findings if not BY_NAME[one.code].timed]))
    assert kept[0] == kept[1] == kept[2]


def test_lengths_that_cannot_be_told_apart_are_named_together(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[CHEAP]))
    same = report_json(run, verdict)["payoff"][0]["equally_fast"]  # type: ignore[index, call-overload]
    assert best_length(run, CHEAP)[0].drafts in same
    told = [line for line in speeds.payoff_lines(run) if "are not told apart by these prompts" in line]
    assert bool(told) == (len(same) > 1)


def test_with_few_prompts_no_speed_is_shown(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[CHEAP], prompts=[f"p{number}" for number in range(15)]))
    assert not speeds.speed_rows(run)
    assert not speeds.payoff_lines(run)
    assert report_json(run, verdict)["payoff"] == []


def test_without_costs_shorter_drafts_are_said_not_to_be_judged(judged: Judged) -> None:
    run, _ = judged(Recipe(DRIFTING, costs=[CHEAP]))
    (run.path / COSTS_FILE).unlink()
    run = read_run(run.path)
    verdict = judge(run, load_battery(run.probe_names))
    assert answer(run, verdict).startswith("Nothing that was tried at inference helps here (shorter drafts aside, ")
    assert not speeds.speed_rows(run)
    assert " instead of 8: keeps " in speeds.shorter_draft(run)


def test_hardly_slower_drafts_are_left_as_they_are_everywhere(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[StepCosts(1, 0.001, 0.001, (1.0,) * 9), StepCosts(4, 0.001, 0.001, (1.0,) * 9)]))
    assert remedies.tried(run)[0].trial != "draft-length" or not remedies.tried(run)[0].helps
    assert "What to type" not in parts(run, verdict)
    assert not any("instead of 8" in line for line in advice_lines(run, verdict, remedies.tried(run)))
    assert answer(run, verdict).startswith("Nothing that was tried at inference helps here:")


def test_a_chain_of_one_has_no_trial_and_is_told_what_it_pays(judged: Judged) -> None:
    run, verdict = judged(Recipe(Life(lost=(0,), growth=(1,), moved=(0,)), costs=[StepCosts(1, 1.0, 1.0, (1.0, 2.0))]))
    assert not remedies.tried(run)
    text = plain(render(run, verdict))
    assert "Turn speculation off at batch 1" in text
    assert OFF in text
    assert "Turn speculation off at batch 1" in markdown(run, verdict)


def test_what_helps_enough_to_pay_is_typed_where_no_draft_length_pays(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    run, verdict = judged(Recipe(Life(lost=[0, *[0.9] * 7]), costs=[DEAR]))
    window = Option("window of 64", Plan("other", 8), Plan("baseline", 8), {"vllm": "its setting"})
    found = [Outcome("draft-window", "deployable", window, Estimate(2, 1.9, 2.1, 8), helps=True)]
    pays: list[float] = [0.9]
    planned = type(run).planned

    def priced(self: Run, statistic: object, plan: Plan, *rest: object, **more: object) -> object:
        high = pays[0]
        return Estimate(high, high, high, 8) if plan.condition == "other" else planned(self, statistic, plan, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(type(run), "planned", priced)
    assert remedies.answer(run, verdict, found).startswith("Turn speculation off")
    assert remedies.typed(run, found)[0].endswith(OFF)
    pays[0] = 1.5
    assert remedies.answer(run, verdict, found) == ""
    assert remedies.typed(run, found) == ["window of 64, vllm 0.33: its setting"]


@pytest.mark.parametrize("costs", [FREE, DEAR])
def test_terminal_and_markdown_show_the_answer(judged: Judged, costs: StepCosts) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[costs]))
    assert answer(run, verdict) in " ".join(plain(render(run, verdict)).split())
    assert answer(run, verdict) in markdown(run, verdict)
