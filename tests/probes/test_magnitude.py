from __future__ import annotations

from dataclasses import replace

import pytest

from driftcli.conditions import DraftSettings
from driftcli.domain import Estimate, Finding, RunSpec, Sourced
from driftcli.testing import Facts, Head, pair_card
from probes.magnitude import PINNED, Magnitude


def judged(kept: tuple[float, float, float], *, prompts: int = 10, no_recursion: str | None = None, **said: str) -> list[object]:
    card = pair_card(no_recursion=no_recursion)
    card = replace(card, record={**card.record, **{name: Sourced(value, "tensor") for name, value in said.items()}})
    trace = Facts(Head(prompts=prompts), card, ratios={PINNED: Estimate(*kept, prompts)})
    return list(Magnitude().judge(trace))


def test_one_pin_is_tried_where_a_state_is_handed_on_twice() -> None:
    (asked,) = Magnitude().conditions(pair_card(), RunSpec(depth=3))
    assert asked.settings == DraftSettings(3, pinned=True)
    assert Magnitude().conditions(pair_card(), RunSpec(depth=2)) == ()
    assert Magnitude().conditions(pair_card(no_recursion="no state"), RunSpec()) == ()


def test_a_head_that_loses_by_the_pin_reads_its_magnitude() -> None:
    (found,) = judged((0.44, 0.4, 0.48))  # the paper's pre-norm head
    assert isinstance(found, Finding)
    assert (found.code, found.severity, found.condition) == ("MAGNITUDE-CODED", "healthy", PINNED)
    assert (
        found.claim
        == "with its hidden state held at its first RMS 44% [40%, 48%] of the accepted draft tokens are left: the head reads how large its state is"
    )


def test_a_head_that_gains_by_the_pin_suffers_from_the_growth_itself() -> None:
    (found,) = judged((1.39, 1.25, 1.54))
    assert isinstance(found, Finding)
    assert (found.code, found.severity) == ("GROWTH-COSTS", "healthy")
    assert found.claim.endswith("139% [125%, 154%] of the accepted draft tokens are left: the growth itself is what the head cannot read")
    assert found.fix.startswith("retrain with normed feedback")
    (found,) = judged((1.39, 1.25, 1.54), feedback="raw", residual="raw", logits_from="normed")
    assert isinstance(found, Finding)
    assert found.fix.startswith("driftcli heal --treatment norm-output --rate 0 writes a norm that holds the RMS into its files")


@pytest.mark.parametrize("kept", [(1.0, 1.0, 1.0), (0.9, 0.84, 0.96), (1.1, 1.04, 1.16)])
def test_a_pin_that_changes_nothing_for_sure_is_not_noted(kept: tuple[float, float, float]) -> None:
    assert judged(kept) == []


def test_seven_prompts_or_no_state_keep_it_quiet() -> None:
    assert judged((0.44, 0.4, 0.48), prompts=7) == []
    assert judged((0.44, 0.4, 0.48), no_recursion="no state") == []
