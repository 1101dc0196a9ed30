from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np
import pytest

from driftcli.conditions import BASELINE, Condition, DraftSettings, Plan, Wiring
from driftcli.domain import Axis, Estimate, Finding, Open, PairCard, RunSpec, Said, Skipped, Sound, Withheld
from driftcli.errors import ProbeError
from driftcli.mitigations.draft_length import DraftLength
from driftcli.mitigations.mitigation import Option, Trial
from driftcli.probe import Trace
from driftcli.statistics.curves import accepted_drafts, compounding, fresh_accuracy
from driftcli.testing import Facts, Head, compute_mitigation, compute_probe, pair_card
from driftcli.testing.heads import by_prompt

NUMBER = Estimate(0.5, 0.4, 0.6, 10)
FOUND = Finding("DRIFT-STATE", "mild", "it drifts", NUMBER, "share", "draft less")
ASKED = Condition("mine-1", DraftSettings(4), "mine")
TURNS = count()


@dataclass(frozen=True)
class Mine:
    """A probe that asks for and says what it is told."""

    says: Callable[[Trace], Sequence[Said]] | Sequence[Said] = ()
    asks: Callable[[], Sequence[Condition]] | Sequence[Condition] = (ASKED,)
    axes: tuple[Axis, ...] = ("drift",)
    name: str = "mine"

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        return self.asks() if callable(self.asks) else self.asks

    def judge(self, trace: Trace) -> Iterator[Said]:
        yield from self.says(trace) if callable(self.says) else self.says


def test_what_a_probe_says_comes_back_by_code_and_by_axis() -> None:
    told = compute_probe(Mine([FOUND, Skipped("capacity", "not applicable", "why"), Sound("drift", "why"), Withheld("template", "why")]))
    assert (told.codes, told.findings) == (["DRIFT-STATE"], {"DRIFT-STATE": FOUND})
    assert told.axes == {"capacity": "not applicable", "drift": "sound", "template": "withheld"}
    assert (told.conditions, told.further, told.wiring) == ((ASKED,), (), None)


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ([replace(FOUND, code="DRIFT-SATE")], "found 'DRIFT-SATE', expected a code of driftcli.codes"),
        ([replace(FOUND, severity="terrible")], "graded DRIFT-STATE 'terrible', expected one of healthy, mild, miswired"),  # type: ignore[arg-type]
        ([replace(FOUND, severity="inconclusive")], "graded DRIFT-STATE 'inconclusive'"),
        ([replace(FOUND, estimate=Estimate(0.5, 0.6, 0.7, 10))], "expected low <= value <= high"),
        ([replace(FOUND, estimate=Estimate(float("nan"), 0.4, 0.6, 10))], "expected low <= value <= high"),
        ([replace(FOUND, fix="")], "without a claim, a unit or what to do"),
        ([replace(FOUND, condition="elsewhere")], "under 'elsewhere', which was not measured"),
        ([Sound("template", "why")], "says that template is sound, expected it of its own axes alone: drift"),
        ([Open("wiring", "why")], "says that wiring is open, expected it of its own axes alone: drift"),
        (["DRIFT-STATE"], "said 'DRIFT-STATE', expected Finding"),
        (lambda _: [replace(FOUND, claim=f"turn {next(TURNS)}")], "gives something else when judge is called again"),
    ],
)
def test_what_a_probe_must_not_say_is_refused(says: Sequence[Said], why: str) -> None:
    with pytest.raises(ProbeError, match=f"^mine: .*{why}"):
        compute_probe(Mine(says))


@pytest.mark.parametrize(
    ("asks", "why"),
    [
        ([ASKED, ASKED], "asks for the condition 'mine-1' twice"),
        ([replace(ASKED, name="../mine")], "expected a name of letters, digits"),
        ([replace(ASKED, name=BASELINE)], "asks for 'baseline', which every run has"),
        ([replace(ASKED, probe="yours")], "asks for 'mine-1' as the probe 'yours', expected 'mine'"),
        ([replace(ASKED, settings=DraftSettings(5))], "at depth 5, expected spec.depth .4. or deeper=True"),
        (lambda: [replace(ASKED, name=f"mine-{next(TURNS)}")], "gives something else when conditions is called again"),
    ],
)
def test_what_a_probe_must_not_ask_for_is_refused(asks: Sequence[Condition], why: str) -> None:
    with pytest.raises(ProbeError, match=f"^mine: .*{why}"):
        compute_probe(Mine(asks=asks))


@pytest.mark.parametrize(
    ("probe", "why"), [(Mine, "is a class"), (object(), "has no name"), (Mine(axes=("speed",)), "judges [(]'speed',[)]")]
)  # type: ignore[arg-type]
def test_what_is_no_probe_is_refused(probe: Mine, why: str) -> None:
    with pytest.raises(ProbeError, match=why):
        compute_probe(probe)


def test_a_fact_of_a_condition_that_nobody_asks_for_is_refused() -> None:
    with pytest.raises(ProbeError, match="facts are given of the condition 'mine-2', which it does not ask for; it asks for mine-1"):
        compute_probe(Mine(), ratios={"mine-2": NUMBER})
    assert compute_probe(Mine(), ratios={"mine-1": NUMBER}, quick=True, temperature=0.5).said == ()


def test_facts_are_met_by_hand_by_the_real_curves() -> None:
    run = Facts(Head(fresh=(80, 80, 80), forced=(80, 72, 56), prompts=12), conditions={"less": Head(kept=(40, 20, 20, 20))})
    assert (run.spec.depth, run.n_prompts, run.n_anchors) == (3, 12, 1200)
    assert [one.value for one in run.by_depth(fresh_accuracy) if isinstance(one, Estimate)] == pytest.approx([0.8] * 3)
    lost = run.by_depth(compounding)[2]
    assert isinstance(lost, Estimate) and lost.value == pytest.approx(24 / 80 - 8 / 80)
    run = replace(run, head=Head())
    kept = run.ratio_to_baseline(accepted_drafts, "less")
    assert isinstance(kept, Estimate) and kept.value == pytest.approx(0.5)


def test_rows_are_dealt_over_the_prompts_in_turn_and_no_two_prompts_are_alike() -> None:
    rows = by_prompt([(10, 20), (30, 40)], 4)
    np.testing.assert_allclose(rows, [(10, 20), (30, 40), (10, 20), (30, 40)], rtol=1e-6)
    assert len({tuple(row) for row in rows}) == 4


@dataclass(frozen=True)
class Length(DraftLength):
    """A mitigation that tries what it is told."""

    plan: Plan = field(default_factory=lambda: Plan(BASELINE, 2))
    settings: dict[str, str] = field(default_factory=dict)
    options: int = 1

    def trials(self, trace: Trace) -> Sequence[Trial]:
        option = Option("draft 2", self.plan, Plan(BASELINE, 4), self.settings)  # type: ignore[arg-type]
        return [Trial("mine", [option] * self.options)]


@pytest.mark.parametrize(
    ("mitigation", "why"),
    [
        (Length(plan=Plan("elsewhere", 2)), "plans by 'elsewhere', which was not measured"),
        (Length(plan=Plan(BASELINE, 5)), "plans 5 drafts, expected 1 to 4"),
        (Length(settings={"my-engine": "on"}), "names my-engine, expected engines"),
        (Length(options=0), "tries nothing"),
        (Length(kind="free"), "is 'free', expected one of deployable"),  # type: ignore[arg-type]
    ],
)
def test_what_a_mitigation_must_not_try_is_refused(mitigation: Length, why: str) -> None:
    with pytest.raises(ProbeError, match=why):
        compute_mitigation(mitigation)


def test_a_pair_is_one_that_feeds_on_its_state_or_says_why_not() -> None:
    assert (pair_card().family, pair_card(feedback="normed").record["feedback"].value) == ("eagle3", "normed")
    assert pair_card(no_recursion="why").no_recursion == "why"
    assert Facts(wiring=Wiring(feedback="normed")).wiring.changes == {"feedback": "normed"}
