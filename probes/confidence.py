"""Does the drafter's probability of a guess say how often such guesses are right?

Rules that stop a chain early, and trees that are built by it, trust that number. What matters is its error by depth: a head may be sound
on the target's state and promise too much on its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from driftcli.conditions import Condition
from driftcli.domain import Axis, Estimate, Finding, PairCard, RunSpec, Said
from driftcli.probe import Trace
from driftcli.statistics.curves import calibration_error, overconfidence
from driftcli.statistics.walks import EXACT_TEXT, MINIMAL_PROMPTS


@dataclass(frozen=True)
class Confidence:
    """Mean probability of the guesses against the share of right ones, by depth."""

    name: str = "confidence"
    axes: tuple[Axis, ...] = ("capacity",)
    minimal_gap: float = 0.1  # of probability, promised too much or too little; chosen by us

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """The baseline's guesses say it."""
        return ()

    def judge(self, trace: Trace) -> Iterator[Said]:
        """A finding where at some depth the whole interval of the gap lies beyond what counts."""
        if trace.n_prompts < MINIMAL_PROMPTS or trace.argmax_share < EXACT_TEXT:
            return
        every = trace.by_depth(overconfidence, tries=trace.spec.depth)
        gaps = [(depth, gap) for depth, gap in enumerate(every, 1) if isinstance(gap, Estimate)]
        beyond = [(depth, gap) for depth, gap in gaps if gap.low > self.minimal_gap or gap.high < -self.minimal_gap]
        if not beyond:
            return
        depth, gap = max(beyond, key=lambda one: max(one[1].low, -one[1].high))  # the surest: the largest is the luckiest
        error, first = trace.by_depth(calibration_error)[depth - 1], gaps[0][1]
        too = "more" if gap.value > 0 else "less"
        seen = f"at depth {depth} its probability promises {abs(gap.value):.0%} {too} right draft tokens than there are"
        beside = f"; calibration error {error.value:.2f}" if isinstance(error, Estimate) else ""
        claim = f"{seen} [{gap.low:+.0%}, {gap.high:+.0%}], at depth 1 {first.value:+.0%}{beside}"
        fix = "do not stop chains or grow trees by this probability without correcting it by depth; retrain with a deeper unroll"
        yield Finding("MISCALIBRATED", "mild", claim, gap, "probability", fix)
