"""How much of the accepted drafts is left when the target samples?

The target's replies are drawn at each temperature, and the drafter's probabilities are taken at the same one. Two rules are reported by
name. With greedy drafts, as engines propose by default, a draft is kept where it is the token drawn. With sampled drafts and lossless
rejection sampling a draft is kept with probability `min(1, draft / target)` of the drawn token, which needs no drawing of drafts and is
exact along the text (Leviathan et al. 2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from driftcli.conditions import Condition, DraftSettings, TextSettings
from driftcli.domain import Axis, PairCard, RunSpec, Said
from driftcli.probe import Trace

TEMPERATURES = (0.7, 1.0)  # greedy decoding is the baseline; chosen by us: what chat models are mostly served at


@dataclass(frozen=True)
class Sampling:
    """Replies drawn at several temperatures."""

    name: str = "sampling"
    axes: tuple[Axis, ...] = ()  # numbers for the table of conditions: losing by temperature is no fault of the pair

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """One condition a temperature that is not the run's own."""
        return [
            Condition(f"temperature-{value:g}", DraftSettings(spec.depth), self.name, text=TextSettings(temperature=value))
            for value in TEMPERATURES
            if value != spec.temperature
        ]

    def left_out(self, pair: PairCard, spec: RunSpec) -> Sequence[str]:
        """The run's own temperature, which its baseline measures."""
        own = spec.temperature in TEMPERATURES
        return [f"{self.name}: temperature {spec.temperature:g} left out: it is the run's own, see its baseline"] if own else []

    def judge(self, trace: Trace) -> Iterator[Said]:
        """Nothing: a drafter is as good at a temperature as the table says."""
        yield from ()
