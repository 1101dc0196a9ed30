"""How many of the target's choices lie outside the draft vocabulary, and how much of the loss is that?

A token that the drafter cannot propose is a miss at any depth and ends the chain, however good the head is. No cure of drift and no longer
training mends it: only a larger or a recounted draft vocabulary does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from driftcli.curves import covered, misses_outside
from driftcli.domain import Axis, Condition, Estimate, Finding, PairCard, RunSpec, Said
from driftcli.grades import Grades, lost
from driftcli.probe import Trace
from driftcli.stats import EXACT_TEXT, MINIMAL_PROMPTS


@dataclass(frozen=True)
class VocabularyCoverage:
    """Wanted tokens inside and outside the draft vocabulary, over all prompts and by category."""

    name: str = "vocabulary"
    axes: tuple[Axis, ...] = ("capacity",)
    grades: Grades = field(default_factory=Grades)  # of the target's choices outside

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """The baseline's guesses say it."""
        return ()

    def judge(self, trace: Trace) -> Iterator[Said]:
        """A finding where the draft vocabulary lacks more than a few of the target's choices."""
        inside = trace.estimate(covered)
        if trace.n_prompts < MINIMAL_PROMPTS or trace.argmax_share < EXACT_TEXT or not isinstance(inside, Estimate):
            return
        outside = lost(inside)
        if outside.low <= self.grades.mild:
            return
        severity = self.grades.of(outside)
        seen = f"{outside.value:.0%} of the target's choices [{outside.low:.0%}, {outside.high:.0%}] lie outside the draft vocabulary"
        share = trace.estimate(misses_outside)
        of_loss = f": {share.value:.0%} of all wrong first guesses" if isinstance(share, Estimate) else ""
        fix = "count the draft vocabulary anew on the target's replies to prompts like these, or enlarge it"
        yield Finding("VOCAB-COVERAGE", severity, f"{seen}{of_loss}{_worst(trace)}", outside, "share of the target's choices", fix)


def _worst(trace: Trace) -> str:
    """The category that suffers most, where there is more than one."""
    found = {name: trace.of_category(name).estimate(covered) for name in trace.categories}
    known = {name: 1 - share.value for name, share in found.items() if isinstance(share, Estimate)}
    if len(known) < 2:
        return ""
    worst = max(known, key=lambda name: known[name])
    return f"; most in {worst}, {known[worst]:.0%}"
