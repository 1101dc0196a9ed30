"""The mitigations of synthetic runs, whose attention conditions were never drafted: draft lengths and rules that end chains are left."""

from __future__ import annotations

import pytest

from driftcli.costs import StepCosts
from driftcli.domain import Verdict
from driftcli.payoff import best_length
from driftcli.report import remedies, speeds
from driftcli.report.console import plain
from driftcli.report.json import report as report_json
from driftcli.report.markdown import render as markdown
from driftcli.report.terminal import render
from driftcli.traces.reader import Run
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
    assert not any("draft" in finding.fix for finding in verdict.findings if finding.code == "DRIFT-STATE")


def test_where_nothing_helps_the_answer_is_to_train_again_as_far_as_a_finding_asks_for_it(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[FREE]))
    assert answer(run, verdict) == "Nothing that was tried at inference helps here; what is lost only training can mend, as below."
    (lines,) = parts(run, verdict).values()
    assert lines[0].startswith("feed back the state behind the final norm")
    assert lines[0].endswith("(DRIFT-STATE, DRIFT-ATTENTION)")  # one recipe for both


def test_where_nothing_helps_a_sound_head_it_is_not_sent_to_training(judged: Judged) -> None:
    run, verdict = judged(Recipe(Life(), costs=[FREE], prompts=[f"p{number:02}" for number in range(24)], anchors=200))
    assert answer(run, verdict) == "Nothing that was tried at inference helps here; no finding asks for a new training."


def test_where_something_helps_it_is_what_to_type_and_no_answer_stands_above_it(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[CHEAP]))
    assert answer(run, verdict) == ""
    fastest = best_length(run, CHEAP)[0].drafts
    assert 1 <= fastest < 8
    assert any(f'"num_speculative_tokens": {fastest}' in line for line in parts(run, verdict)["What to type"])
    (fix,) = {finding.fix for finding in verdict.findings if finding.code == "DRIFT-STATE"}
    assert fix.startswith(f"draft {fastest} instead of 8: is the fastest here")


def test_batch_sizes_are_told_apart_and_one_where_nothing_pays_drafts_nothing(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[CHEAP, DEAR]))
    fastest = best_length(run, CHEAP)[0].drafts
    (line,) = [line for line in parts(run, verdict)["What to type"] if line.startswith("by batch size, vllm")]
    assert f"[[1, 7, {fastest}], [8, 8, 0]]" in line
    assert [line.split(":")[0] for line in speeds.payoff_lines(run)[:2]] == ["batch 1", "batch 8"]


def test_the_speed_of_every_draft_length_is_that_of_its_acceptance_length(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[CHEAP, DEAR]))
    cheap, dear = report_json(run, verdict)["payoff"]  # type: ignore[misc]
    assert (cheap["batch_size"], dear["batch_size"], dear["best_draft_length"]) == (1, 8, 0)
    for one, costs in ((cheap, CHEAP), (dear, DEAR)):
        for drafts, row in enumerate(one["by_draft_length"], 1):
            assert row["drafts"] == drafts
            assert row["break_even_length"] == pytest.approx(costs.round_seconds(drafts))  # a plain step takes 1 second
            assert row["speed_up"]["value"] == pytest.approx(row["acceptance_length"]["value"] / costs.round_seconds(drafts))
    length, pays, speed, _, _ = speeds.speed_rows(run)
    assert (length.name, pays.name) == ("acceptance length", "batch 1, pays from")
    assert [cell.rstrip("x") for cell in speed.cells] == [f"{row['speed_up']['value']:.2f}" for row in cheap["by_draft_length"]]


def test_without_costs_or_with_few_prompts_no_speed_is_shown(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[CHEAP], prompts=[f"p{number}" for number in range(15)]))
    assert not speeds.speed_rows(run)
    assert report_json(run, verdict)["payoff"] == []


@pytest.mark.parametrize("costs", [FREE, DEAR])
def test_terminal_and_markdown_show_the_answer(judged: Judged, costs: StepCosts) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[costs]))
    assert answer(run, verdict) in " ".join(plain(render(run, verdict)).split())
    assert answer(run, verdict) in markdown(run, verdict)
