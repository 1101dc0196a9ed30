from __future__ import annotations

from collections.abc import Mapping

import pytest

from driftcli.domain import Absent, Estimate, Finding, Open, Skipped, Sound
from driftcli.testing import Facts, Head
from probes.domain import DomainShift

Share = tuple[float, float, float]
SOUND: Share = (1.0, 0.97, 1.03)


def trace(shares: Mapping[str, Share], **changes: object) -> Facts:
    contrasts: dict[str, Estimate | Absent] = {name: Estimate(*share, 30) for name, share in shares.items()}
    by = {name: Head(rounds=(50,) * 4, kept=(30,) * 4, covered=(90,) * 4) for name in shares}
    return Facts(by_category=by, contrasts=contrasts, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("share", "severity"), [((0.9, 0.86, 0.94), "mild"), ((0.7, 0.6, 0.8), "moderate"), ((0.5, 0.4, 0.6), "severe")])
def test_a_category_that_loses_for_sure_is_found(share: Share, severity: str) -> None:
    (found,) = DomainShift().judge(trace({"code": share, "prose": SOUND}))
    assert isinstance(found, Finding)
    assert (found.code, found.severity) == ("DOMAIN-SHIFT", severity)
    assert 1 - share[2] <= found.estimate.value <= 1 - share[0]  # found for being sure, so taken to be smaller
    assert found.claim == (
        f"in code {found.estimate.value:.0%} [{1 - share[2]:.0%}, {1 - share[1]:.0%}] of the first-token accuracy is missing that other "
        "prompts have where the target is as certain; 0.60 accepted draft tokens a round, 10% of the wanted tokens outside the draft vocabulary"
    )


def test_two_categories_that_lose_are_both_found() -> None:
    codes = [
        item.code
        for item in DomainShift().judge(trace({"code": (0.5, 0.4, 0.6), "prose": SOUND, "maths": (0.6, 0.5, 0.7)}))
        if isinstance(item, Finding)
    ]
    assert codes == ["DOMAIN-SHIFT"] * 2


def test_categories_alike_are_sound_and_the_widest_is_named() -> None:
    (said,) = DomainShift().judge(trace({"code": (0.99, 0.96, 1.02), "prose": SOUND}))
    assert said == Sound(
        "domain", "no category of 2 misses 4% or more; in code 1% [-2%, 4%] of the expected first-token accuracy is missing"
    )


def test_a_loss_that_is_neither_shown_nor_excluded_is_open_with_its_bound_and_the_prompts_that_would_tell() -> None:
    (said,) = DomainShift().judge(trace({"code": (0.95, 0.8, 1.1), "prose": SOUND}))
    assert isinstance(said, Open) and said.bound == pytest.approx(0.2)
    assert said.reason == (
        "nothing found, up to 20% is not excluded (in code 5% [-10%, 20%] of the expected first-token accuracy is missing); about "
        f"{said.more_prompts} more prompts of that category would tell"
    )


def test_a_loss_that_is_shown_and_may_or_may_not_be_moderate_is_inconclusive() -> None:
    (said,) = DomainShift().judge(trace({"code": (0.9, 0.8, 0.97), "prose": SOUND}))
    assert isinstance(said, Skipped) and said.state == "inconclusive"
    assert "which may be 3% or 20%" in said.reason


def test_one_category_or_too_few_prompts_leave_it_open_and_given_replies_decide_nothing() -> None:
    small = Facts(by_category={"code": Head(prompts=7), "prose": Head(prompts=3)})
    for run, why in (
        (trace({"code": SOUND}), "not judged: the prompts have 1 categories, 1 of them with at least 8 prompts"),
        (small, "not judged: the prompts have 2 categories, 0 of them with at least 8 prompts"),
    ):
        (said,) = DomainShift().judge(run)
        assert isinstance(said, Open) and said.bound is None and said.reason.startswith(why)
    (said,) = DomainShift().judge(trace({"code": SOUND, "prose": SOUND}, chosen=0.5))
    assert (
        isinstance(said, Skipped) and said.state == "inconclusive" and said.reason.startswith("the given replies are not the target's own")
    )
