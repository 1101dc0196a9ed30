"""How many right guesses does a block lose because its tokens are guessed side by side?

The control of a guess is the first guess of a block that begins right before the same token: the same drafter on the same text, which now
knows the tokens between as verified ones. What is lost against it is no drift, since nothing is fed back; it bounds what correcting a block
token by token could give. At depth 1 both are one guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from driftcli.conditions import Condition
from driftcli.domain import Axis, Estimate, Finding, PairCard, RunSpec, Said
from driftcli.probe import Trace
from driftcli.statistics.curves import block_independence, forced_accuracy, fresh_accuracy
from driftcli.statistics.grades import Grades
from driftcli.statistics.walks import MINIMAL_PROMPTS

CORRECTED = "a drafter that corrects its block token by token (DSpark, DFlash2) could win back some"
DEEPER = "its correction by the token before wins back too little: more layers, or more training, would have to"
READING = "heads that read the tokens before (Hydra, MLPSpeculator) or an EAGLE head could win back some"
IN_BLOCK = "in the block, {:.0%} as the first of one"
BY_HEAD = "by the head of that depth, {:.0%} by the first one from right before the token"  # of heads without attention, one a depth


@dataclass(frozen=True)
class BlockIndependence:
    """Guesses of a block against the first guesses of blocks that begin later, at the depth in use."""

    name: str = "block-independence"
    axes: tuple[Axis, ...] = ("capacity",)
    grades: Grades = field(default_factory=Grades)  # share of right guesses lost; as drift is graded
    least_capacity: float = 0.1  # control accuracy below which there are too few right guesses to lose; as for drift

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """The baseline's guesses and their controls say it."""
        return ()

    def judge(self, trace: Trace) -> Iterator[Said]:
        """A finding where the whole interval of the loss at the run's depth lies beyond what counts."""
        if not trace.pair.guesses_side_by_side or trace.n_prompts < MINIMAL_PROMPTS:
            return
        control, lost = trace.by_depth(fresh_accuracy)[-1], trace.by_depth(block_independence)[-1]
        if not isinstance(control, Estimate) or control.low < self.least_capacity or not isinstance(lost, Estimate):
            return
        if lost.low <= self.grades.mild:
            return
        own = trace.by_depth(forced_accuracy)[-1]
        seen = f"{lost:.0%} of the right guesses at depth {trace.spec.depth} are lost to guessing side by side"
        first, better = (IN_BLOCK, DEEPER if trace.pair.corrects_blocks else CORRECTED) if trace.pair.attends else (BY_HEAD, READING)
        claim, fix = f"{seen}: {own.value:.0%} {first.format(control.value)}", f"draft fewer tokens; {better}"
        severity, likely = self.grades.of(lost), self.grades.likely(lost)
        yield Finding("BLOCK-GAP", severity, claim, lost, "share of right guesses", fix, likely=likely)
