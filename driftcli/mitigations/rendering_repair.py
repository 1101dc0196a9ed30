"""Another rendering of the same prompts, of those that a server can be told: the BOS dropped or doubled, another system message or none.

Unlike all other mitigations it changes what the target says: what is held against one another is each on the reply that it brings about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driftcli.conditions import Condition, Plan
from driftcli.domain import PairCard, RunSpec
from driftcli.mitigations.mitigation import Kind, Option, Trial, usual
from driftcli.mitigations.serving import template
from driftcli.probe import Trace

SERVED = {  # conditions of the probes of templates and system prompts, and what they are in words
    "no-bos": "prompts without BOS",
    "bos-doubled": "prompts with two BOS",
    "no-system": "no system message",
    "other-system": "another system message",
}


@dataclass(frozen=True)
class RenderingRepair:
    """What the probes of renderings measured, looked at from the other side: does one of them do better?"""

    name: str = "rendering-repair"
    kind: Kind = "deployable"

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """None: it looks at what those probes measured."""
        return ()

    def trials(self, trace: Trace) -> Sequence[Trial]:
        """One trial over all."""
        own = [(name, words) for name, words in SERVED.items() if name in trace.measured]
        options = [Option(words, Plan(name, trace.spec.depth), usual(trace), template(name)) for name, words in own]
        return [Trial(self.name, options)] if options else []
