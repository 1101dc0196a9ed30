"""The contract of a mitigation: what is drafted for it, and which settings of it are tried.

A trial is one hypothesis: its options are told apart on half of the prompts, and the one that is best there is judged on the other half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from driftcli.conditions import Condition, Plan
from driftcli.domain import PairCard, RunSpec
from driftcli.mitigations.serving import Engine
from driftcli.probe import Trace

Kind = Literal["deployable", "needs code", "diagnostic"]  # whether an engine has a switch, could have one, or nobody could serve it


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: what it is in words, the plan that it decodes by and the one that it is held against, and how engines call it.

    changes: of the fields of `DraftSettings`, by which it can be put together with others; none for what is no change of drafting.
    """

    words: str
    plan: Plan
    over: Plan
    settings: Mapping[Engine, str] = field(default_factory=dict)
    changes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """Options of one mitigation on the same texts."""

    name: str
    options: Sequence[Option]


class Mitigation(Protocol):
    """One way to lose fewer tokens."""

    @property
    def name(self) -> str:
        """Its id: the module's name with hyphens."""

    @property
    def kind(self) -> Kind:
        """Who can use it."""

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """What to draft for it, none where the baseline's rows tell."""

    def trials(self, trace: Trace) -> Sequence[Trial]:
        """What is tried, of what was measured; none where it does not apply to this pair."""


def usual(trace: Trace) -> Plan:
    """How the run itself decodes: the reference at the full depth."""
    return Plan(trace.reference, trace.spec.depth)
