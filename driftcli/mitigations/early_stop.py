"""A chain that ends by itself: when the drafter is unsure of its last draft token or of the whole chain, or when its state or attention
leaves the band of fresh queries.

Of the whole chain it is unsure by the product of what it says of each draft token, as it says it or under a temperature a depth, which is
fitted on the half of the prompts that chooses the threshold too. Sources: transformers' assistant_confidence_threshold for one token,
DSpark (arXiv:2607.05147) for the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driftcli.conditions import Condition, Plan, StopMeasure, StopRule
from driftcli.domain import Absent, PairCard, RunSpec
from driftcli.mitigations.mitigation import Kind, Option, Trial, usual
from driftcli.mitigations.serving import Engine, early_stop
from driftcli.mitigations.unfiled_serving import of_exit
from driftcli.probe import Trace
from driftcli.statistics.payoff import best_length, deciding
from driftcli.statistics.survival import PRODUCTS

CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # least probability of a guess (chosen by us; transformers' default is 0.4)
ENTROPIES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # nats of the drafter's distribution (chosen by us)
SURVIVALS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8)  # least product over a chain (chosen by us)
OUTSIDE = (0.01, 0.05, 0.1, 0.25)  # share of fresh queries left out of the band on either side (chosen by us)


@dataclass(frozen=True)
class EarlyStop:
    """Rules on one measure each, at several thresholds; those on drift itself need a state."""

    name: str = "early-stop"
    kind: Kind = "deployable"

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """None: what a rule looks at is in the baseline's free chains."""
        return ()

    def trials(self, trace: Trace) -> Sequence[Trial]:
        """One trial a measure, against the best fixed length where costs tell it, lest a rule be praised for mending a wrong one; none of a
        lookup, whose drafts end where it finds no more and come with no probability.
        """
        if trace.pair.copies:
            return []
        rules: dict[str, list[StopRule]] = {
            "confidence": [StopRule("confidence", low=low) for low in CONFIDENCES],
            "entropy": [StopRule("entropy", high=high) for high in ENTROPIES],
            **_products(trace),
            **({} if trace.pair.no_recursion else {"state": _bands(trace, "state")}),
            **({"prompt": _bands(trace, "prompt")} if trace.pair.steers_attention else {}),
        }
        costs = deciding(trace)
        over = best_length(trace, costs)[0] if costs else usual(trace)
        return [
            Trial(
                f"{self.name}-{name}",
                [Option(_words(rule), Plan(trace.reference, trace.spec.depth, rule), over, stop_typed(rule, trace.pair)) for rule in tried],
            )
            for name, tried in rules.items()
            if tried and trace.spec.depth > 1
        ]


def _products(trace: Trace) -> dict[str, list[StopRule]]:
    """Rules on the whole chain by each that says something of it, and the same under the temperatures that fit the half that selects."""
    found: dict[str, list[StopRule]] = {}
    for told, chains in trace.survival.items():
        if isinstance(chains, Absent):
            continue
        measure = PRODUCTS[told]
        found[measure] = [StopRule(measure, low) for low in SURVIVALS]
        fit = chains.fit("selecting")
        if any(fit.fitted):
            found[f"{measure}-calibrated"] = [StopRule(measure, low, temperatures=fit.temperatures) for low in SURVIVALS]
    return found


def _bands(trace: Trace, measure: StopMeasure) -> list[StopRule]:
    """Bands of the fresh queries; a share of attention is watched below alone."""
    bands = [band for outside in OUTSIDE if (band := trace.fresh_band(measure, outside)) is not None]
    return [StopRule(measure, low) if measure == "prompt" else StopRule(measure, low, high) for low, high in bands]


def stop_typed(rule: StopRule, pair: PairCard) -> dict[Engine, str]:
    """What engines take to stop a chain by a rule, as it is for this drafter."""
    settings = early_stop(rule, self_feeding=pair.no_recursion is None)
    return of_exit(settings["transformers"]) if pair.family == "early-exit" else settings


def _words(rule: StopRule) -> str:
    chain = f"of its draft tokens is below {rule.low:.0%}{' under a temperature a depth' if rule.temperatures else ''}"
    what = {
        "survival": f"the product of the probabilities {chain}",
        "head": f"the product of what the confidence head says {chain}",
        "confidence": f"a draft token is less likely than {rule.low:.0%}",
        "entropy": f"its entropy is above {rule.high:g} nats",
        "state": f"the hidden state's RMS leaves {rule.low:.3g} to {rule.high:.3g}",
        "prompt": f"less than {rule.low:.0%} of attention is on the prompt",
    }
    return f"stop when {what[rule.measure]}"
