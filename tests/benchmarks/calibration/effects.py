"""What each condition of the battery does to the drafts of a simulated pair, told from its settings alone, whoever asks for it.

A sound pair loses nothing by a change, but no two ways of drafting give the same drafts: on one text the acceptance of a prompt moves by a
few percent or not at all, by more through windows in a long context, and on another text it is drawn anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from driftcli.conditions import Condition, DraftSettings, TextSettings, Wiring
from driftcli.statistics.walks import EXACT_TEXT
from tests.benchmarks.calibration.regimes import Scenario

GUILTY = "other-roles"  # the change of the template under which a planted loss appears
LONGEST = 2048  # tokens from which a planted loss with length appears
SAME = 0.8  # share of replies that the target writes again as they were, one by one
ALTERNATIVES: Mapping[Wiring, tuple[float, float]] = {  # gain of a wrong wiring in nats a token: mean and sd, as on the bundled heads
    Wiring(capture=(1, 7, 12)): (-0.002, 0.20),
    Wiring(capture=(3, 9, 14)): (-0.20, 0.15),
    Wiring(feedback="normed"): (-0.02, 0.07),
    Wiring(residual="normed"): (-0.19, 0.16),
    Wiring(rope="default"): (-0.08, 0.27),
    Wiring(head="target's"): (-0.18, 0.15),
    Wiring(ones="embedding"): (-0.06, 0.09),
    Wiring(ones="hidden"): (-0.01, 0.05),
    Wiring(ones="mlp"): (-0.002, 0.02),
    Wiring(ones="final"): (-0.15, 0.09),
    Wiring(ones="every"): (-0.30, 0.21),
}
ORDERS = ((-0.02, 0.07), (-0.44, 0.34), (-0.86, 0.38), (-0.87, 0.51), (-1.19, 0.49))  # the same of the other orders of the streams


@dataclass(frozen=True)
class Effect:
    """What becomes of the scores on a text under another way of drafting.

    touched: share of prompts that it moves at all. blur: share of a score's variance that is drawn anew. spread: between prompts, in
    probits. costs: share of the accepted drafts lost.
    """

    touched: float = 1.0
    blur: float = 0.0
    spread: float = 0.0
    costs: float = 0.0


def effect_of(condition: Condition, scenario: Scenario) -> Effect:
    """The effect of a condition's settings on the text that it drafts on."""
    text, settings = condition.text, condition.settings
    if settings != DraftSettings(settings.depth):
        return _of_drafting(settings, in_long_context=text.length > 0)
    lost = _lost_to_text(condition, scenario)
    touched, spread = scenario.regime.jumpy
    return Effect(1.0 if lost else touched, 0.02, spread, lost) if text.replayed else Effect(costs=lost)


def _lost_to_text(condition: Condition, scenario: Scenario) -> float:
    text = condition.text
    if condition.name.removesuffix("-replayed") == GUILTY:
        return max(scenario.loss("template"), _lost_to_surprise(text))
    if text.length >= LONGEST:
        return scenario.loss("context")
    return max(_lost_to_surprise(text), 0.2 * text.temperature)


def _lost_to_surprise(text: TextSettings) -> float:
    """On replies that the target would not write any more even a sound head loses, as the bundled ones do: 0.18 to 0.27."""
    if text.shuffled:
        return 0.3
    return 1.3 * (1 - own_choices(text)) if text.replayed and own_choices(text) < EXACT_TEXT else 0.0


def own_choices(text: TextSettings) -> float:
    """Share of a reply's tokens that the target would choose itself behind this rendering; of the bundled target 0.996 without a BOS and
    0.83 to 0.85 without a template.
    """
    if not text.replayed:
        return 1.0
    return 0.85 if text.template != "own" or text.shuffled else 0.95 if text.system != "own" else 0.996


def _of_drafting(settings: DraftSettings, *, in_long_context: bool) -> Effect:
    """Of other ways to draft: noise costs, as it costs the paper's post-norm head, and so does a state that is held, as it costs the bundled
    one; what a sound head may be served with does not.
    """
    if settings.held:
        return Effect(costs=0.5)
    if settings.noise is not None:
        return Effect(blur=0.1, costs=settings.noise.alpha * (0.6 if settings.noise.path == "state" else 0.15))
    if settings.window is not None and in_long_context:
        return Effect(blur=0.06, spread=0.1)
    return Effect(touched=0.6, blur=0.02, spread=0.05)
