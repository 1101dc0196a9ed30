"""How much of the accepted drafts is left when the drafter sees its last 32 rows alone?

A probe of one's own is an object with a name, the axes it judges, `conditions` to run and `judge`, which sees numbers and nothing else:

    PYTHONPATH=examples driftcli diagnose --probe own_probe:PROBE

One line checks it and what a probe promises, without a model (`driftcli.testing`):

    assert compute_probe(PROBE, ratios={"last-32": Estimate(1.2, 1.1, 1.3, 10)}).codes == ["WINDOW-HELPS"]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from driftcli.conditions import Condition, DraftSettings
from driftcli.domain import Axis, Estimate, Finding, PairCard, RunSpec, Said
from driftcli.probe import Trace
from driftcli.statistics.curves import accepted_drafts


@dataclass(frozen=True)
class LastRows:
    """One narrow window, held against the baseline prompt by prompt."""

    name: str = "last-rows"
    axes: tuple[Axis, ...] = ()  # a note: it raises nothing
    rows: int = 32

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """One window; none for a causal language model, whose windows are its own."""
        if pair.no_recursion is not None:
            return ()
        return [Condition(f"last-{self.rows}", DraftSettings(spec.depth, window=self.rows), self.name)]

    def judge(self, trace: Trace) -> Iterator[Said]:
        """A note where the window surely keeps more than all rows do."""
        name = f"last-{self.rows}"
        if name not in trace.measured:
            return
        kept = trace.ratio_to_baseline(accepted_drafts, name)
        if isinstance(kept, Estimate) and kept.low > 1:
            claim = (
                f"with its last {self.rows} rows alone it keeps {kept.value:.0%} of the accepted drafts [{kept.low:.0%}, {kept.high:.0%}]"
            )
            fix = f"serve the drafter with a window of {self.rows}"
            yield Finding("WINDOW-HELPS", "healthy", claim, kept, "share of accepted drafts", fix, name)


PROBE = LastRows()
