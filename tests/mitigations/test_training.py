from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from driftcli.codes import BY_NAME
from driftcli.conditions import Wiring
from driftcli.domain import Absent, Estimate, Finding, PairCard
from driftcli.mitigations.training import CURE, DEEPER, PRODUCERS, RECIPES, Recipe, recipes
from driftcli.statistics.intervals import Bootstrap
from driftcli.statistics.walks import Floats, Sums
from driftcli.testing import pair_card

PROMPTS = 10


@dataclass(frozen=True)
class Counted:
    """What recipes read of `driftcli.probe.Trace`: of 100 anchors a prompt 60 first guesses are right and 85 wanted tokens can be guessed."""

    pair: PairCard = field(default_factory=pair_card)
    wiring: Wiring = field(default_factory=Wiring)
    fresh: float = 200.0
    accepted: float = 150.0

    def estimate(self, statistic: Callable[[Sums], Floats], condition: str | None = None) -> Estimate | Absent:
        counts = {"anchors": 100.0, "fresh_accepted": self.fresh, "accepted": self.accepted}
        sums = {name: np.full(PROMPTS, value) for name, value in counts.items()}
        by_depth = {"forced_match": (60.0, 50.0), "forced_covered": (85.0, 85.0)}
        sums |= {name: np.tile(values, (PROMPTS, 1)) for name, values in by_depth.items()}
        return Bootstrap.of(PROMPTS, 0).estimate(sums, statistic)


def finding(code: str, value: float = 0.3) -> Finding:
    return Finding(code, "moderate", "a claim", Estimate(value, value, value, PROMPTS), "share", "a fix")


def bound(code: str, trace: Counted | None = None) -> Estimate | Absent:
    (advice,) = recipes(trace or Counted(), [finding(code)])
    return advice.most


@pytest.mark.parametrize("code", ["DRIFT-STATE", "DRIFT-ATTENTION", "DEPTH-COLLAPSE", "EXPOSURE-GAP"])
def test_curing_self_feeding_gives_at_most_what_it_costs(code: str) -> None:
    most = bound(code)
    assert isinstance(most, Estimate)
    assert most.value == 0.25  # 50 of 200 accepted fresh drafts are lost


def test_too_few_accepted_fresh_drafts_bound_nothing() -> None:
    assert isinstance(bound("DRIFT-STATE", Counted(fresh=5.0, accepted=2.0)), Absent)


def test_a_larger_vocabulary_gives_at_most_the_misses_outside_of_it() -> None:
    most = bound("VOCAB-COVERAGE")
    assert isinstance(most, Estimate)
    assert most.value == 15 / 40  # of 40 wrong first guesses 15 want a token outside


def test_more_replies_give_at_most_the_misses_inside_the_vocabulary() -> None:
    most = bound("LOW-CAPACITY")
    assert isinstance(most, Estimate)
    assert most.value == 0.25  # 85 - 60 of 100


@pytest.mark.parametrize("code", ["TEMPLATE-SENSITIVE", "DRIFT-LONGCTX", "LENGTH-LOSS", "DOMAIN-SHIFT"])
def test_no_more_than_the_loss_comes_back(code: str) -> None:
    assert bound(code) == finding(code).estimate


def test_of_several_findings_of_a_code_the_worst_is_meant_and_those_without_a_recipe_are_left_out() -> None:
    found = [finding("TEMPLATE-SENSITIVE", 0.1), finding("ROPE-MISMATCH"), finding("TEMPLATE-SENSITIVE", 0.4), finding("LENGTH-LOSS", 0.2)]
    advice = recipes(Counted(), found)
    assert [one.code for one in advice] == ["TEMPLATE-SENSITIVE", "LENGTH-LOSS"]
    assert isinstance(advice[0].most, Estimate)
    assert advice[0].most.value == 0.4
    assert recipes(Counted(), []) == []


def test_a_true_probability_gives_no_drafts_by_itself() -> None:
    assert isinstance(bound("MISCALIBRATED"), Absent)


@pytest.mark.parametrize(
    ("trace", "what"),
    [
        (Counted(), CURE),
        (Counted(pair=pair_card(feedback="normed")), DEEPER),
        (Counted(wiring=Wiring(feedback="normed")), DEEPER),
        (Counted(pair=pair_card(feedback="normed"), wiring=Wiring(feedback="raw")), CURE),
    ],
)
def test_a_head_that_feeds_back_a_normed_state_is_not_told_to(trace: Counted, what: str) -> None:
    (advice,) = recipes(trace, [finding("DRIFT-STATE")])
    assert advice.what == what
    assert ("norm_output" in advice.keys["SpecForge"]) == (what == CURE)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.code)
def test_every_recipe_is_for_a_known_code_and_says_what_each_trainer_calls_it(recipe: Recipe) -> None:
    assert recipe.code in BY_NAME
    assert list(recipe.keys) == list(PRODUCERS)
    assert all(recipe.keys.values())


def test_no_code_has_two_recipes() -> None:
    assert len({recipe.code for recipe in RECIPES}) == len(RECIPES)
