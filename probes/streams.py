"""Does every captured stream of the target reach the drafter, or does one drown the others?

The streams grow by orders of magnitude from early to late layers. A head without norms in front of fc can learn to weigh them, so what
counts is not a stream's own RMS but what it adds to the fused input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from driftcli.conditions import Condition
from driftcli.domain import Axis, Estimate, Finding, PairCard, RunSpec, Said
from driftcli.probe import Trace
from driftcli.statistics.walks import MINIMAL_PROMPTS


@dataclass(frozen=True)
class Streams:
    """RMS of each captured stream and of the fused input."""

    name: str = "streams"
    axes: tuple[Axis, ...] = ()  # a note: an imbalance is a risk, not a measured loss
    minimal_imbalance: float = 10.0  # largest over smallest contribution; chosen by us

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """The baseline's streams are enough."""
        return ()

    def judge(self, trace: Trace) -> Iterator[Said]:
        """A note where one stream adds far more than another and no norm stands in front of fc."""
        norms = trace.pair.record.get("pre_fc_norm")
        if norms is None or norms.value != "none":
            return
        added = {name: added for name, (_, added) in trace.by_stream().items() if name != "fused" and isinstance(added, Estimate)}
        if len(added) < 2 or min(estimate.n_prompts for estimate in added.values()) < MINIMAL_PROMPTS:
            return
        small, large = min(added, key=lambda name: added[name].value), max(added, key=lambda name: added[name].value)
        if added[large].low > self.minimal_imbalance * added[small].high:
            few, many = added[small].value, added[large].value
            more = f"{large} adds {many / few:.0f}x what {small} adds" if few else f"{small} adds nothing"
            fix = "nothing now; at the next training put one norm per stream before fc (EAGLE 3.1)"
            yield Finding("STREAM-IMBALANCE", "healthy", f"{more} to the fused input of fc", added[large], "RMS", fix)
