from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from driftcli.domain import Absent, Estimate, Finding, RenderingFacts, RunSpec, Skipped, Sound, TextSettings
from probes.template import CHANGES, TemplateChanges
from tests.probes.fake_trace import FakeTrace, Story, card

ALL = RenderingFacts(
    templated=True, begins_with_bos=True, names_roles=True, prompts_reply=True, thinks_if_asked=True, thinks_unless_told=True
)
PROBE = TemplateChanges()
Kept = tuple[float, float, float]


def trace(kept: Mapping[str, Kept], facts: RenderingFacts = ALL, **changes: object) -> FakeTrace:
    """A run in which a change keeps these shares of the accepted drafts, and every other one all of them."""
    ratios: dict[str, Estimate | Absent] = {change.name: Estimate(*kept.get(change.name, (1.0, 0.97, 1.03)), 10) for change in CHANGES}
    return replace(FakeTrace(pair=replace(card(), rendering=facts), ratios=ratios), **changes)  # type: ignore[arg-type]


def test_every_change_is_asked_for_anew_and_with_the_runs_replies() -> None:
    asked = PROBE.conditions(replace(card(), rendering=ALL), RunSpec())
    assert len(asked) == 2 * len(CHANGES)
    assert [condition.text for condition in asked[:2]] == [TextSettings(bos="dropped"), TextSettings(bos="dropped", replayed=True)]
    assert {condition.name for condition in asked} >= {"neither", "neither-replayed"}


def test_quick_asks_for_three_of_them_answered_anew() -> None:
    asked = PROBE.conditions(replace(card(), rendering=ALL), RunSpec(quick=True))
    assert [condition.name for condition in asked] == ["no-bos", "no-template", "neither"]
    assert not any(condition.text.replayed for condition in asked)


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        (RenderingFacts(), set()),
        (RenderingFacts(begins_with_bos=True), {"no-bos", "bos-doubled"}),
        (RenderingFacts(templated=True), {"no-template", "other-family"}),
    ],
)
def test_what_a_target_does_not_have_is_not_changed(facts: RenderingFacts, names: set[str]) -> None:
    asked = PROBE.conditions(replace(card(), rendering=facts), RunSpec())
    assert {condition.name.removesuffix("-replayed") for condition in asked} == names


def test_a_target_without_template_and_bos_has_nothing_to_change() -> None:
    (said,) = PROBE.judge(trace({}, RenderingFacts()))
    assert isinstance(said, Skipped) and said.state == "not applicable"
    assert said.reason.startswith("the target's prompts do not begin with its BoS token; the target has no chat template")


@pytest.mark.parametrize(("kept", "severity"), [((0.9, 0.86, 0.94), "mild"), ((0.7, 0.62, 0.8), "moderate"), ((0.4, 0.3, 0.5), "severe")])
def test_the_change_that_surely_loses_most_is_found_at_the_grade_its_whole_interval_supports(kept: Kept, severity: str) -> None:
    less_sure = {"neither": Story(entropy=0.75)}
    (found,) = PROBE.judge(trace({"neither": kept, "no-bos": (0.2, 0.1, 1.5)}, others=less_sure))
    assert isinstance(found, Finding)
    assert (found.code, found.severity, found.condition) == ("TEMPLATE-SENSITIVE", severity, "neither")
    assert found.estimate.value == pytest.approx(1 - kept[0])
    assert found.claim.startswith(
        f"without template and BoS {1 - kept[0]:.0%} of the accepted drafts are lost [{1 - kept[2]:.0%}, {1 - kept[1]:.0%}]"
    )


def test_a_drafter_that_bears_every_change_is_sound() -> None:
    (said,) = PROBE.judge(trace({"no-bos": (0.99, 0.96, 1.02)}))
    assert said == Sound(
        "template",
        "no change of 9 surely costs 5% of the accepted drafts; most, without the BoS 1% of the accepted drafts are lost [-2%, 4%]",
    )


def test_an_interval_astride_what_counts_is_inconclusive() -> None:
    (said,) = PROBE.judge(trace({"neither": (0.9, 0.8, 1.0)}))
    assert isinstance(said, Skipped)
    assert said.reason == (
        "without template and BoS 10% of the accepted drafts are lost [0%, 20%], which may be nothing or 15% and more; more prompts would tell"
    )


def test_given_replies_few_prompts_and_no_numbers_decide_nothing() -> None:
    for run, why in (
        (trace({"neither": (0.4, 0.3, 0.5)}, chosen=0.5), "not the target's own"),
        (trace({"neither": (0.4, 0.3, 0.5)}, story=Story(prompts=7)), "7 prompts with a chain"),
        (trace({}, ratios={change.name: Absent("nothing to divide by") for change in CHANGES}), "nothing to divide by"),
    ):
        (said,) = PROBE.judge(run)
        assert isinstance(said, Skipped) and said.state == "inconclusive" and why in said.reason
