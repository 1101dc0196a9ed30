"""Does the drafter read the magnitude of its own state, or only its direction?

Every state is handed on with the RMS of its chain's first, so that it cannot grow. A head that has learned to read how large its state is
loses by that: the paper's pre-norm head 56% of its acceptance (arXiv:2605.09992). A head that only suffers from the growth gains. No engine
has such a switch, but an EAGLE-3 head of raw feedback can be given a final norm that does the same, without training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from driftcli.conditions import Condition, DraftSettings
from driftcli.domain import Axis, Estimate, Finding, PairCard, RunSpec, Said
from driftcli.probe import Trace
from driftcli.statistics.curves import accepted_drafts
from driftcli.statistics.walks import MINIMAL_PROMPTS

PINNED = "state-pinned"


@dataclass(frozen=True)
class Magnitude:
    """The state pinned to its first RMS."""

    name: str = "magnitude"
    axes: tuple[Axis, ...] = ()  # a note: it explains a drift, it is none
    minimal_change: float = 0.05  # of accepted drafts, relative; chosen by us, as for every other loss

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """One pin; none for a drafter without a state, or for a chain in which no state is handed on twice."""
        if pair.no_recursion is not None or spec.depth < 3:
            return ()
        return [Condition(PINNED, DraftSettings(spec.depth, pinned=True), self.name)]

    def judge(self, trace: Trace) -> Iterator[Said]:
        """A note where the pin costs accepted drafts, and one where it gives some back."""
        if trace.pair.no_recursion is not None or trace.spec.depth < 3 or trace.n_prompts < MINIMAL_PROMPTS:
            return
        kept = trace.ratio_to_baseline(accepted_drafts, PINNED)
        if not isinstance(kept, Estimate):
            return
        left = f"{kept.value:.0%} [{kept.low:.0%}, {kept.high:.0%}] of the accepted draft tokens are left"
        seen = f"with its hidden state held at its first RMS {left}"
        if kept.high < 1 - self.minimal_change:
            claim = f"{seen}: the head reads how large its state is"
            fix = "do not rescale the state when serving; retrain with normed feedback (EAGLE 3.1), which leaves no magnitude to read"
            yield Finding("MAGNITUDE-CODED", "healthy", claim, kept, "share of accepted drafts", fix, PINNED)
        elif kept.low > 1 + self.minimal_change:
            claim = f"{seen}: the growth itself is what the head cannot read"
            yield Finding("GROWTH-COSTS", "healthy", claim, kept, "share of accepted drafts", _fix(trace.pair), PINNED)


def _fix(pair: PairCard) -> str:
    if not pair.can_be_normed:
        return "retrain with normed feedback, which holds the RMS for good; no engine can hold it when serving"
    untrained = "driftcli heal --treatment norm-output --rate 0 writes a norm that holds the RMS into its files, without training"
    return f"{untrained} and with the same first guess; without --rate 0 it is trained besides"
