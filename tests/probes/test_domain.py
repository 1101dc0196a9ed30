from __future__ import annotations

from collections.abc import Mapping

import pytest

from driftcli.domain import Absent, Estimate, Finding, Skipped, Sound
from probes.domain import DomainShift
from tests.probes.fake_trace import FakeTrace, Story

Share = tuple[float, float, float]
SOUND: Share = (1.0, 0.97, 1.03)


def trace(shares: Mapping[str, Share], **changes: object) -> FakeTrace:
    contrasts: dict[str, Estimate | Absent] = {name: Estimate(*share, 30) for name, share in shares.items()}
    by = {name: Story(rounds=(50,) * 4, kept=(30,) * 4, covered=(90,) * 4) for name in shares}
    return FakeTrace(by_category=by, contrasts=contrasts, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("share", "severity"), [((0.9, 0.86, 0.94), "mild"), ((0.7, 0.6, 0.8), "moderate"), ((0.5, 0.4, 0.6), "severe")])
def test_a_category_that_loses_for_sure_is_found(share: Share, severity: str) -> None:
    (found,) = DomainShift().judge(trace({"code": share, "prose": SOUND}))
    assert isinstance(found, Finding)
    assert (found.code, found.severity) == ("DOMAIN-SHIFT", severity)
    assert found.claim == (
        f"in code {1 - share[0]:.0%} [{1 - share[2]:.0%}, {1 - share[1]:.0%}] of the right first guesses are missing that the target's "
        "certainty lets expect from the other prompts; 0.60 accepted drafts a round, 10% of the wanted tokens outside the draft vocabulary"
    )


def test_two_categories_that_lose_are_both_found() -> None:
    codes = [
        item.code
        for item in DomainShift().judge(trace({"code": (0.5, 0.4, 0.6), "prose": SOUND, "maths": (0.6, 0.5, 0.7)}))
        if isinstance(item, Finding)
    ]
    assert codes == ["DOMAIN-SHIFT"] * 2


def test_categories_alike_are_sound_and_the_lowest_is_named() -> None:
    (said,) = DomainShift().judge(trace({"code": (0.99, 0.96, 1.02), "prose": SOUND}))
    assert said == Sound(
        "domain", "no category of 2 is surely worse than the others; code has 99% [96%, 102%] of the right first guesses expected there"
    )


def test_an_interval_astride_what_counts_is_inconclusive() -> None:
    (said,) = DomainShift().judge(trace({"code": (0.9, 0.8, 1.0), "prose": SOUND}))
    assert isinstance(said, Skipped) and said.state == "inconclusive"
    assert said.reason.endswith("code has 90% [80%, 100%] of the right first guesses expected there; more prompts would tell")


def test_one_category_too_few_prompts_and_given_replies_decide_nothing() -> None:
    small = FakeTrace(by_category={"code": Story(prompts=7), "prose": Story(prompts=3)})
    for run, why in (
        (trace({"code": SOUND}), "the prompts have 1 categories, 1 of them with at least 8 prompts"),
        (small, "the prompts have 2 categories, 0 of them with at least 8 prompts"),
        (trace({"code": SOUND, "prose": SOUND}, chosen=0.5), "the given replies are not the target's own"),
    ):
        (said,) = DomainShift().judge(run)
        assert isinstance(said, Skipped) and said.state == "inconclusive" and said.reason.startswith(why)
