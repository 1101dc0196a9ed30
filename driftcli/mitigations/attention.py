"""Attention held back by hand along the chain: a bias on the keys that it drafted, one on the sink, and scores made flatter by depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from driftcli.conditions import Condition, DraftSettings, Plan
from driftcli.domain import PairCard, RunSpec
from driftcli.mitigations.mitigation import Kind, Option, Trial, usual
from driftcli.mitigations.serving import attention_bias, attention_temperature
from driftcli.probe import Trace

TRIED: Mapping[str, tuple[float, ...]] = {  # nats, nats, and a depth (chosen by us)
    "chain_bias": (-2.0, -1.0, -0.5, 0.5),
    "sink_bias": (-1.0, 0.5, 1.0, 2.0),
    "warming": (-0.05, 0.05, 0.1, 0.2),
}
QUICK: Mapping[str, tuple[float, ...]] = {"chain_bias": (-1.0,), "sink_bias": (1.0,), "warming": (0.1,)}
WORDS = {
    "chain_bias": "{:+g} nats on its own draft tokens",
    "sink_bias": "{:+g} nats on the sink",
    "warming": "attention scores over 1 {:+g} a depth",
}


@dataclass(frozen=True)
class AttentionRegularisation:
    """Each of the three at several strengths, on queries deeper than the first."""

    name: str = "attention"
    kind: Kind = "needs code"

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """Every strength; none for a drafter without a chain of its own, and none on keys where a chain has none."""
        if not pair.steers_attention or spec.depth < 2:
            return ()
        tried = (QUICK if spec.quick else TRIED).items()
        return [
            Condition(_named(field, value), _settings(spec.depth, field, value))
            for field, values in tried
            if not (pair.keyless and field == "chain_bias")
            for value in values
        ]

    def trials(self, trace: Trace) -> Sequence[Trial]:
        """One trial for each of the three."""
        own = self.conditions(trace.pair, trace.spec)
        found: dict[str, list[Option]] = {}
        for condition in (one for one in own if one.name in trace.measured):
            ((field, value),) = [(name, getattr(condition.settings, name)) for name in TRIED if getattr(condition.settings, name)]
            settings = attention_temperature(value) if field == "warming" else attention_bias(field, value)
            plan = Plan(condition.name, trace.spec.depth)
            found.setdefault(field, []).append(Option(WORDS[field].format(value), plan, usual(trace), settings, {field: value}))
        return [Trial(field.replace("_", "-"), options) for field, options in found.items()]


def _settings(depth: int, field: str, value: float) -> DraftSettings:
    if field == "chain_bias":
        return DraftSettings(depth, chain_bias=value)
    return DraftSettings(depth, sink_bias=value) if field == "sink_bias" else DraftSettings(depth, warming=value)


def _named(field: str, value: float) -> str:
    return f"{field.replace('_', '-')}{value:+g}"
