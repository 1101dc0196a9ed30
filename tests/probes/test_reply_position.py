from __future__ import annotations

from collections.abc import Sequence

import pytest

from driftcli.conditions import BASELINE
from driftcli.domain import Finding, RunSpec, Skipped
from driftcli.statistics.positions import no_replies
from driftcli.testing import Facts, Head, pair_card
from probes.reply_position import ReplyPosition
from tests.probes.replies import falling


def judged(kept: Sequence[float | Sequence[float]], prompts: int = 10, **changes: object) -> list[object]:
    return list(ReplyPosition().judge(Facts(Head(prompts=prompts), replies=falling(kept, prompts), **changes)))  # type: ignore[arg-type]


def test_nothing_is_drafted_for_it() -> None:
    assert ReplyPosition().conditions(pair_card(), RunSpec()) == ()


@pytest.mark.parametrize(("late", "severity"), [(36, "mild"), (32, "moderate"), (20, "severe")])
def test_a_fall_within_replies_is_found_and_graded_by_its_interval(late: float, severity: str) -> None:
    (found,) = judged((40, late))
    assert isinstance(found, Finding)
    assert (found.code, found.severity, found.condition) == ("LENGTH-OUT", severity, BASELINE)
    lost = f"{1 - late / 40:.0%}"
    assert found.claim == (
        f"from the first 64 tokens of a reply to tokens 64-127 of the same replies (10 prompts) {lost} [{lost}, {lost}] of the accepted "
        "draft tokens are lost; the context grows as they do, which context-length asks apart"
    )
    assert found.fix.endswith("turn speculation off behind 64 reply tokens if it no longer pays there")


def test_the_surest_of_several_parts_is_told() -> None:
    (found,) = judged((40, 40, 39, 20))
    assert isinstance(found, Finding)
    assert "tokens 256-511" in found.claim


@pytest.mark.parametrize("kept", [(40, 40), (40, 39), (40, 60), (40, (78, 2))])
def test_no_fall_a_rise_a_small_fall_and_one_that_is_not_sure_keep_it_quiet(kept: Sequence[float | Sequence[float]]) -> None:
    assert judged(kept) == []


def test_a_fall_that_is_shown_and_may_be_small_or_moderate_is_inconclusive() -> None:
    (said,) = judged((40, (42, 26)), prompts=16)  # 15% lost on average
    assert isinstance(said, Skipped)
    assert (said.axis, said.state) == ("context", "inconclusive")
    assert said.reason.startswith("from the first 64 tokens of a reply to tokens 64-127 of the same replies (16 prompts) 15% [")


def test_one_part_too_few_prompts_or_given_replies_keep_it_quiet() -> None:
    assert judged((40,)) == []
    assert judged((40, 20), prompts=7) == []
    assert judged((40, 20), chosen=0.5) == []
    assert list(ReplyPosition().judge(Facts(replies=no_replies(4)))) == []
