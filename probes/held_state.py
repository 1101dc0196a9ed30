"""Is the drafter's own state worth feeding back, or would the target's state, held where the chain began, do as well?

At every depth the drafter reads the state of the target that the chain began with, and its own tokens. That state knows nothing of what was
drafted since, needs no training and costs nothing to hand on, so it is a floor: what a state fed back gives must lie above it, and so must
any repair of that state. A head that keeps more draft tokens on it than on its own state is better off without feedback.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from driftcli.conditions import Condition, DraftSettings
from driftcli.domain import Axis, Estimate, Finding, PairCard, RunSpec, Said
from driftcli.probe import Trace
from driftcli.statistics.curves import accepted_drafts
from driftcli.statistics.walks import MINIMAL_PROMPTS

HELD = "held"
FIX = "let the server hand the anchor's state on at every step, if it can; train with more unrolled steps"


@dataclass(frozen=True)
class HeldState:
    """The target's state of the chain's beginning, read at every depth."""

    name: str = "held-state"
    axes: tuple[Axis, ...] = ()  # a note: it tells what the state that is fed back is worth

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """One, at full depth; none for a drafter without a state, or for chains that hand none on."""
        if pair.no_recursion is not None or spec.depth < 2:
            return ()
        return [Condition(HELD, DraftSettings(spec.depth, held=True), self.name)]

    def judge(self, trace: Trace) -> Iterator[Said]:
        """A note where the held state surely gives more accepted drafts than the drafter's own."""
        if HELD not in trace.measured or trace.n_prompts < MINIMAL_PROMPTS:
            return
        kept = trace.ratio_to_baseline(accepted_drafts, HELD)
        if isinstance(kept, Estimate) and kept.low > 1:
            share = f"{kept.value:.0%} [{kept.low:.0%}, {kept.high:.0%}] of the accepted draft tokens"
            claim = f"with the target's state held from where each chain begins {share}: the state that is fed back does worse than none"
            yield Finding("HELD-BEATS-OWN", "healthy", claim, kept, "share of accepted drafts", FIX, HELD)
