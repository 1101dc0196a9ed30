"""Every probe and every mitigation, once where it speaks and once where it stays quiet: one row each, and one table for all.

A count is out of 100 anchors a prompt, so what a row expects is met in the head. What a finding says, and where its thresholds lie, stands
in the test of its probe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from driftcli.cli.battery import WHOLE
from driftcli.conditions import BASELINE, Plan, StopRule, Wiring
from driftcli.domain import Absent, Axis, Estimate, PairCard, RenderingFacts, RunSpec, Sourced
from driftcli.mitigations.early_stop import CONFIDENCES
from driftcli.mitigations.probe import MITIGATIONS
from driftcli.testing import Given, Head, pair_card
from probes.context_length import PROMPTS, ContextLength
from tests.mitigations.planned_trace import CHEAP, DEAR, EVEN, costing
from tests.probes.replies import falling
from tests.probes.shifts import shifted

PROBES = {probe.name: probe for probe in WHOLE}
MEASURES = {mitigation.name: mitigation for mitigation in MITIGATIONS}


@dataclass(frozen=True)
class Row:
    """A probe by its name, facts, and what is said of them: codes, and other words by axis."""

    probe: str
    facts: Given
    codes: tuple[str, ...] = ()
    axes: Mapping[Axis, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Trying:
    """A mitigation by its name, facts, the trials that are made of them and those of these that help."""

    mitigation: str
    facts: Given
    trials: tuple[str, ...] = ()
    helps: tuple[str, ...] = ()


def share(value: float, spread: float = 0.03) -> Estimate:
    """A share of the baseline with its interval."""
    return Estimate(value, value - spread, value + spread, 10)


def recorded(pair: PairCard | None = None, **fields: Sourced) -> PairCard:
    """A pair with these fields in the drafter's record."""
    base = pair or pair_card()
    return replace(base, record={**base.record, **fields})


RENDERED = replace(pair_card(), rendering=RenderingFacts(templated=True, begins_with_bos=True, takes_system=True))
LONG = replace(pair_card(), target_positions=8192)
SHORT_RANGE = recorded(max_position_embeddings=Sourced(64, "config:max_position_embeddings"))
SWITCHED = replace(pair_card(), family="mtp", readings={"as_served:sglang": {"feedback": Sourced("normed", "default")}})
REWIRABLE = replace(recorded(capture=Sourced((2, 4, 5), "default:vLLM")), alternatives=(Wiring(rope="default"),))
LM = pair_card(no_recursion="it hands on no state")
BLOCKS = replace(LM, family="block")


def of(probe: str, pair: PairCard, value: Estimate) -> dict[str, Estimate | Absent]:
    """Every condition that a probe asks for keeps the same share."""
    return dict.fromkeys([one.name for one in PROBES[probe].conditions(pair, RunSpec(depth=4))], value)


def at_lengths(full: float, window: float) -> Given:
    """Drafts kept on 40 rounds at 2048 tokens, with all rows and with any window; at shorter lengths 40."""
    heads = {
        one.name: Head(
            rounds=(40,) * 4, kept=(40 if one.text.length < 2048 else full if one.settings.window is None else window,) * 4, prompts=PROMPTS
        )
        for one in ContextLength().conditions(LONG, RunSpec(depth=4))
    }
    return {"head": Head(rounds=(40,) * 4, kept=(40,) * 4, prompts=PROMPTS), "pair": LONG, "conditions": heads}


def searched(rope: float) -> Given:
    """A search in which another rotation gives the wanted tokens so many nats, and every order of the streams less than the declared one."""
    worse = Head(log_prob=(-150, -250, -250, -250), prompts=16)
    asked = [one.name for one in PROBES["wiring"].conditions(REWIRABLE, RunSpec(depth=4))]
    better = Head(log_prob=(rope, -200, -200, -200), prompts=16)
    second = [f"{name}+rope-default" for name in asked if "capture" in name]
    return {
        "head": Head(prompts=16),
        "pair": REWIRABLE,
        "conditions": {**dict.fromkeys([*asked, *second], worse), "wiring-rope-default": better},
    }


def lengths(kept: tuple[float, ...]) -> dict[Plan, float]:
    """Drafts kept on 100 rounds by draft length."""
    return {Plan(BASELINE, drafts): count for drafts, count in enumerate(kept, 1)}


RISING = lengths((70, 110, 130, 140))  # at a tenth of a target step a draft: 1.55, 1.75, 1.77 and 1.71 times plain decoding
TRIED: Given = {"head": EVEN, "costs": costing(CHEAP)}
ROWS = (
    Row("wiring", searched(-40), ("ROPE-MISMATCH",)),  # 0.6 nats a token more than the declared one
    Row("wiring", searched(-105), (), {"wiring": "sound"}),
    Row(
        "position-range",
        {"pair": SHORT_RANGE, "lengths": (20, 100), "beyond": Head(fresh=(40,) * 4)},
        ("POS-RANGE",),
        {"drift": "withheld"},
    ),
    Row("position-range", {"pair": pair_card(), "lengths": (20, 100)}),  # no range is declared
    Row("controls", {"head": Head(loops=30, calm=(30, 18))}, ("REPETITION-INFLATED",)),  # 1.0 drafts a round in all, 0.6 elsewhere
    Row("controls", {}),
    Row("chain-length", {"head": Head(forced=(80, 72, 64, 56), growth=(1, 1.2, 1.4, 1.6))}, ("DRIFT-STATE",)),  # 24/80 less 8/80
    Row("chain-length", {}),
    Row("block-independence", {"pair": BLOCKS, "head": Head(forced=(80, 60, 50, 40))}, ("BLOCK-GAP",)),  # 80 as the first of a block
    Row("block-independence", {"head": Head(forced=(80, 60, 50, 40))}),  # a head that guesses one after the other
    Row("streams", {"streams": {"2": (share(1), share(0.5)), "8": (share(1), share(20))}}, ("STREAM-IMBALANCE",)),
    Row("streams", {"streams": {"2": (share(1), share(0.5)), "8": (share(1), share(2))}}),
    Row("template", {"pair": RENDERED, "ratios": of("template", RENDERED, share(0.7))}, ("TEMPLATE-SENSITIVE",)),
    Row("template", {"pair": RENDERED, "ratios": of("template", RENDERED, share(1.0))}, (), {"template": "sound"}),
    Row("system-prompt", {"pair": RENDERED, "ratios": of("system-prompt", RENDERED, share(0.7))}, ("TEMPLATE-SENSITIVE",)),
    Row("system-prompt", {"pair": RENDERED, "ratios": of("system-prompt", RENDERED, share(1.0))}, (), {"template": "sound"}),
    Row("context-length", at_lengths(20, 20), ("LENGTH-LOSS",)),  # half of the drafts, whatever the window
    Row("context-length", at_lengths(40, 40), (), {"context": "sound"}),
    Row("reply-position", {"replies": falling((40, 20))}, ("LENGTH-OUT",)),  # half of the drafts behind 64 tokens
    Row("reply-position", {"replies": falling((40, 40))}),
    Row(
        "domain",
        {"by_category": {"code": Head(), "prose": Head()}, "contrasts": {"code": share(0.7), "prose": share(1)}},
        ("DOMAIN-SHIFT",),
    ),
    Row(
        "domain",
        {"by_category": {"code": Head(), "prose": Head()}, "contrasts": {"code": share(1), "prose": share(1)}},
        (),
        {"domain": "sound"},
    ),
    Row("target-shift", {"shift": shifted(60, here=45)}, ("TARGET-SHIFT",)),  # a quarter of the twin's accepted drafts
    Row("target-shift", {"shift": shifted(60, here=(61, 59))}, (), {"domain": "sound"}),
    Row("vocabulary", {"head": Head(covered=(80,) * 4)}, ("VOCAB-COVERAGE",)),
    Row("vocabulary", {"head": Head(covered=(96,) * 4)}),
    Row("confidence", {"head": Head(forced=(80, 70, 60, 50), probability=(82, 78, 76, 75))}, ("MISCALIBRATED",)),  # 75 promised, 50 right
    Row("confidence", {"head": Head(forced=(80, 70, 60, 50), probability=(80, 70, 60, 50))}),
    Row("sampling", {"ratios": of("sampling", pair_card(), share(0.7))}),  # numbers for the table of conditions, and no finding ever
    Row("noise", {"ratios": of("noise", pair_card(), share(0.9)) | {"noise-state-0.5": share(0.05)}}, ("STATE-FRAGILE",)),
    Row("noise", {"ratios": of("noise", pair_card(), share(0.9))}),
    Row("magnitude", {"ratios": of("magnitude", pair_card(), share(0.44))}, ("MAGNITUDE-CODED",)),  # the paper's pre-norm head
    Row("magnitude", {"ratios": of("magnitude", pair_card(), share(1))}),
    Row("held-state", {"ratios": of("held-state", pair_card(), share(1.2))}, ("HELD-BEATS-OWN",)),
    Row("held-state", {"ratios": of("held-state", pair_card(), share(0.7))}),
    Row("switches", {"pair": SWITCHED, "ratios": of("switches", SWITCHED, share(1.3))}, ("SWITCH-WORTH",)),
    Row("switches", {"pair": SWITCHED, "ratios": of("switches", SWITCHED, share(1.0))}),
    Row("mitigations", {"head": EVEN, "plans": RISING, "costs": costing(DEAR)}, ("NO-PAYOFF",)),  # at best 1.7 tokens in 3 steps' time
    Row("mitigations", {"head": EVEN, "plans": RISING, "costs": costing(CHEAP)}, (), {"payoff": "sound"}),  # 2.3 tokens in 1.3
)
TRIALS = (
    Trying("draft-length", {**TRIED, "plans": lengths((130, 130, 130, 130))}, ("draft-length",), ("draft-length",)),  # as many with one
    Trying("draft-length", {**TRIED, "plans": lengths((20, 60, 120, 200))}, ("draft-length",)),  # the deepest is the best
    Trying("draft-window", {**TRIED, "plans": {Plan("draft-window-64", 4): 150}}, ("draft-window",), ("draft-window",)),
    Trying("draft-window", {**TRIED, "plans": {Plan("draft-window-64", 4): 60}}, ("draft-window",)),
    Trying(
        "early-stop",
        {**TRIED, "pair": LM, "plans": {Plan(BASELINE, 4, StopRule("confidence", low=CONFIDENCES[0])): 200}},
        ("early-stop-confidence", "early-stop-entropy"),
        ("early-stop-confidence",),
    ),
    Trying("early-stop", {**TRIED, "pair": LM}, ("early-stop-confidence", "early-stop-entropy")),
    Trying("rendering-repair", {**TRIED, "plans": {Plan("no-bos", 4): 150}}, ("rendering-repair",), ("rendering-repair",)),
    Trying("rendering-repair", TRIED),  # nothing was rendered otherwise
    Trying(
        "wiring-repair",
        {**TRIED, "reference": "rewired", "wiring": Wiring(feedback="normed"), "plans": {Plan("rewired", 4): 180}},
        ("wiring-repair",),
        ("wiring-repair",),
    ),
    Trying("wiring-repair", TRIED),  # it is wired as declared
    Trying("attention", {**TRIED, "plans": {Plan("chain-bias-1", 4): 150}}, ("chain-bias",), ("chain-bias",)),
    Trying("attention", {**TRIED, "plans": {Plan("chain-bias-1", 4): 60}}, ("chain-bias",)),
    Trying("diagnostic", {**TRIED, "plans": {Plan("rms-pinned", 4): 150}}, ("rms-pinned",), ("rms-pinned",)),
    Trying("diagnostic", {**TRIED, "plans": {Plan("rms-pinned", 4): 60}}, ("rms-pinned",)),
    Trying("held-state", {**TRIED, "plans": {Plan("held", 4): 150}}, ("held-state",), ("held-state",)),
    Trying("held-state", TRIED),  # the probe was not asked
)
