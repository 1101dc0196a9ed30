"""A chain that ends by itself: when the drafter is unsure, or when its state or attention leaves the band of fresh queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driftcli.conditions import Condition, Plan, StopMeasure, StopRule
from driftcli.domain import PairCard, RunSpec
from driftcli.mitigations.mitigation import Kind, Option, Trial, usual
from driftcli.mitigations.serving import early_stop
from driftcli.probe import Trace
from driftcli.statistics.payoff import best_length, deciding

CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # least probability of a guess (chosen by us; transformers' default is 0.4)
ENTROPIES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # nats of the drafter's distribution (chosen by us)
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
        """One trial a measure, against the best fixed length where costs tell it, lest a rule be praised for mending a wrong one."""
        rules: dict[StopMeasure, list[StopRule]] = {
            "confidence": [StopRule("confidence", low=low) for low in CONFIDENCES],
            "entropy": [StopRule("entropy", high=high) for high in ENTROPIES],
            **({} if trace.pair.no_recursion else {"state": _bands(trace, "state")}),
            **({} if trace.pair.no_recursion or not trace.pair.attends else {"prompt": _bands(trace, "prompt")}),
        }
        own = trace.pair.no_recursion is None
        costs = deciding(trace)
        over = best_length(trace, costs)[0] if costs else usual(trace)
        return [
            Trial(
                f"{self.name}-{measure}",
                [
                    Option(_words(rule), Plan(trace.reference, trace.spec.depth, rule), over, early_stop(rule, self_feeding=own))
                    for rule in tried
                ],
            )
            for measure, tried in rules.items()
            if tried and trace.spec.depth > 1
        ]


def _bands(trace: Trace, measure: StopMeasure) -> list[StopRule]:
    """Bands of the fresh queries; a share of attention is watched below alone."""
    bands = [band for outside in OUTSIDE if (band := trace.fresh_band(measure, outside)) is not None]
    return [StopRule(measure, low) if measure == "prompt" else StopRule(measure, low, high) for low, high in bands]


def _words(rule: StopRule) -> str:
    what = {
        "confidence": f"a draft token is less likely than {rule.low:.0%}",
        "entropy": f"its entropy is above {rule.high:g} nats",
        "state": f"the hidden state's RMS leaves {rule.low:.3g} to {rule.high:.3g}",
        "prompt": f"less than {rule.low:.0%} of attention is on the prompt",
    }
    return f"stop when {what[rule.measure]}"
