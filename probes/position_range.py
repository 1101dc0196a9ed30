"""Do the texts run past the positions that the drafter's config declares?

Servers size the rotary table by `max_position_embeddings`. Past it older ones refuse, or read beyond the table without a word, which looks
like drift with length and is not. Here rotations are computed as far as they are needed, so a head that was trained so far shows no loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from driftcli.conditions import Condition
from driftcli.domain import Axis, Estimate, Finding, Open, PairCard, RunSpec, Said, Sound, Withheld
from driftcli.probe import Trace
from driftcli.statistics.curves import fresh_accuracy

EVERY = 1 << 31  # a position that no text reaches


@dataclass(frozen=True)
class PositionRange:
    """The declared range against the texts of the run, and the first guess within it and beyond."""

    name: str = "position-range"
    axes: tuple[Axis, ...] = ("wiring",)
    most_beyond: float = 0.5  # share of anchors beyond the range from which drift is not judged; chosen by us
    lost: float = 0.15  # share of right first guesses lost beyond the range that makes it moderate; chosen by us, as for drift

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """The baseline's texts say it."""
        return ()

    def judge(self, trace: Trace) -> Iterator[Said]:
        """A finding where texts run past the range."""
        declared = trace.pair.record.get("max_position_embeddings")
        if declared is None or not isinstance(declared.value, int) or not trace.lengths:
            return
        positions, longest = declared.value, max(trace.lengths)
        if longest <= positions:
            yield Sound("wiring", f"all texts lie within the {positions} positions that the drafter declares")
            return
        inside, outside = (trace.between(*span) for span in ((0, positions), (positions, EVERY)))
        here, there = (one.by_depth(fresh_accuracy)[0] for one in (inside, outside))
        said = f"texts of up to {longest} tokens run past the {positions} positions that the drafter declares"
        if not isinstance(there, Estimate):
            yield Open("wiring", f"{said}, but too few of them to say what it costs ({there.reason})")
            return
        within = f", {here.value:.0%} within" if isinstance(here, Estimate) else ""
        fell = isinstance(here, Estimate) and there.high < (1 - self.lost) * here.low
        fix = "raise max_position_embeddings if the head was trained so far, else serve shorter texts or retrain"
        claim = f"{said}: the first draft token is right {there.value:.0%} of the time beyond{within}"
        yield Finding("POS-RANGE", "moderate" if fell else "mild", claim, there, "share of right first guesses", fix)
        share = outside.n_anchors / trace.n_anchors
        if share > self.most_beyond:
            yield Withheld(
                "drift", f"{share:.0%} of the positions lie past the {positions} positions that the drafter declares; mend that first"
            )
