from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from driftcli.conditions import TextSettings
from driftcli.domain import Absent, Estimate, Finding, Open, RenderingFacts, RunSpec, Skipped, Sound
from driftcli.testing import Facts, Head, pair_card
from probes.template import CHANGES, TemplateChanges

ALL = RenderingFacts(
    templated=True, begins_with_bos=True, names_roles=True, prompts_reply=True, thinks_if_asked=True, thinks_unless_told=True
)
PROBE = TemplateChanges()
Kept = tuple[float, float, float]


def trace(replayed: Mapping[str, Kept], answered: Mapping[str, Kept] | None = None, **changes: object) -> Facts:
    """A run in which a change keeps these shares of the accepted draft tokens on the same replies and on new ones, and every other one all."""
    given = {f"{name}-replayed": kept for name, kept in replayed.items()} | dict(replayed if answered is None else answered)
    names = [change.name + end for change in CHANGES for end in ("", "-replayed")]
    ratios: dict[str, Estimate | Absent] = {name: Estimate(*given.get(name, (1.0, 0.97, 1.03)), 10) for name in names}
    return replace(Facts(pair=replace(pair_card(), rendering=ALL), ratios=ratios), **changes)  # type: ignore[arg-type]


def test_every_change_is_asked_for_anew_and_with_the_runs_replies() -> None:
    asked = PROBE.conditions(replace(pair_card(), rendering=ALL), RunSpec())
    assert len(asked) == 2 * len(CHANGES)
    assert [condition.text for condition in asked[:2]] == [TextSettings(bos="dropped"), TextSettings(bos="dropped", replayed=True)]
    assert {condition.name for condition in asked} >= {"neither", "neither-replayed"}


def test_quick_asks_for_three_of_them() -> None:
    asked = PROBE.conditions(replace(pair_card(), rendering=ALL), RunSpec(quick=True))
    assert [one.name for one in asked if not one.text.replayed] == ["no-bos", "no-template", "neither"]
    assert len(asked) == 6


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        (RenderingFacts(), set()),
        (RenderingFacts(begins_with_bos=True), {"no-bos", "bos-doubled"}),
        (RenderingFacts(templated=True), {"no-template", "other-family"}),
    ],
)
def test_what_a_target_does_not_have_is_not_changed(facts: RenderingFacts, names: set[str]) -> None:
    asked = PROBE.conditions(replace(pair_card(), rendering=facts), RunSpec())
    assert {condition.name.removesuffix("-replayed") for condition in asked} == names


def test_a_target_without_template_and_bos_has_nothing_to_change() -> None:
    (said,) = PROBE.judge(trace({}, pair=pair_card()))
    assert isinstance(said, Skipped) and said.state == "not applicable"
    assert said.reason.startswith("the target's prompts do not begin with its BOS token; the target has no chat template")


@pytest.mark.parametrize(
    ("kept", "severity", "likely"),
    [((0.9, 0.86, 0.93), "mild", "mild"), ((0.7, 0.62, 0.8), "moderate", "moderate"), ((0.4, 0.3, 0.7), "moderate", "severe")],
)
def test_the_surest_change_is_found_at_the_grade_that_is_sure_and_the_one_that_is_likely(kept: Kept, severity: str, likely: str) -> None:
    less_sure = {"neither-replayed": Head(entropy=0.75)}
    (found,) = PROBE.judge(trace({"neither": kept, "no-bos": (0.2, 0.1, 1.5)}, conditions=less_sure))
    assert isinstance(found, Finding)
    assert (found.code, found.severity, found.likely, found.condition) == ("TEMPLATE-SENSITIVE", severity, likely, "neither-replayed")
    assert 1 - kept[2] <= found.estimate.value <= 1 - kept[0]  # it was chosen for being sure, so it is taken to be smaller
    seen = f"{1 - kept[0]:.0%} [{1 - kept[2]:.0%}, {1 - kept[1]:.0%}]"
    assert found.claim.startswith(
        f"without template and BOS {seen} of the accepted draft tokens are lost on the same replies, {seen} on new ones"
    )


def test_a_loss_on_the_same_replies_alone_is_not_called_a_finding() -> None:
    (said,) = PROBE.judge(trace({"neither": (0.7, 0.62, 0.8)}, {"neither": (0.9, 0.7, 1.2)}))
    assert isinstance(said, Skipped) and said.state == "inconclusive"
    assert said.reason == (
        "without template and BOS 30% [20%, 38%] of the accepted draft tokens are lost on the same replies, 10% [-20%, 30%] on new ones, and not "
        "surely both"
    )


def test_where_the_target_would_write_something_else_new_replies_decide() -> None:
    otherwise = {"neither-replayed": Head(own_choices=80)}
    (said,) = PROBE.judge(trace({"neither": (0.6, 0.5, 0.7)}, {}, conditions=otherwise))
    assert isinstance(said, Sound)
    (found,) = PROBE.judge(trace({"neither": (0.6, 0.5, 0.7)}, {"neither": (0.7, 0.62, 0.8)}, conditions=otherwise))
    assert isinstance(found, Finding) and found.condition == "neither"
    assert "on the same replies, of which the target would still choose 80%, 30% [20%, 38%] on new ones" in found.claim


def test_of_replies_that_are_drawn_it_is_not_said_what_the_target_would_choose() -> None:
    otherwise = {"neither-replayed": Head(own_choices=70)}
    told = trace({"neither": (0.6, 0.5, 0.7)}, {"neither": (0.7, 0.62, 0.8)}, conditions=otherwise)
    (found,) = PROBE.judge(replace(told, temperature=0.7))
    assert isinstance(found, Finding) and found.condition == "neither"
    assert "on the same replies, 30% [20%, 38%] on new ones" in found.claim


def test_a_drafter_that_bears_every_change_is_sound() -> None:
    (said,) = PROBE.judge(trace({"no-bos": (0.99, 0.96, 1.02)}))
    assert said == Sound(
        "template",
        "no change of 9 costs 4% of the accepted draft tokens or more; most, without BOS 1% [-2%, 4%] of the accepted draft tokens are lost on the "
        "same replies, 1% [-2%, 4%] on new ones",
    )


def test_a_loss_that_is_not_shown_and_not_excluded_is_left_open_with_its_bound() -> None:
    (said,) = PROBE.judge(trace({"neither": (0.95, 0.8, 1.1)}))
    assert isinstance(said, Open)
    assert said.bound == pytest.approx(0.2)
    assert said.reason.startswith(
        "nothing found, up to 20% is not excluded (without template and BOS 5% [-10%, 20%] of the accepted draft tokens"
    )
    assert said.more_prompts is not None and said.reason.endswith(f"about {said.more_prompts} more prompts would tell")


def test_a_loss_that_is_shown_and_may_or_may_not_count_is_inconclusive() -> None:
    (said,) = PROBE.judge(trace({"neither": (0.9, 0.8, 0.97)}))
    assert isinstance(said, Skipped) and said.state == "inconclusive"
    assert "which may be 3% or 20%" in said.reason


def test_given_replies_and_few_prompts_decide_nothing() -> None:
    for run, why in (
        (trace({"neither": (0.4, 0.3, 0.5)}, chosen=0.5), "not the target's own"),
        (trace({"neither": (0.4, 0.3, 0.5)}, head=Head(prompts=7)), "7 prompts with a chain"),
    ):
        (said,) = PROBE.judge(run)
        assert isinstance(said, Skipped) and said.state == "inconclusive" and why in said.reason


def test_without_a_number_nothing_is_judged() -> None:
    absent = {change.name + end: Absent("nothing to divide by") for change in CHANGES for end in ("", "-replayed")}
    (said,) = PROBE.judge(trace({}, ratios=absent))
    assert said == Open("template", "not judged: nothing to divide by")
