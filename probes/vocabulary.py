"""How many of the target's choices lie outside the draft vocabulary, and how much of the loss is that?

A token that the drafter cannot propose is a miss at any depth and ends the chain, however good the head is. No cure of drift and no longer
training mends it: only a larger or a recounted draft vocabulary does, or for a language model with another tokenizer, whose vocabulary is
what the two share, a drafter with the target's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from driftcli.conditions import Condition
from driftcli.domain import Axis, Estimate, Finding, PairCard, RunSpec, Said
from driftcli.probe import Trace
from driftcli.statistics.curves import covered, misses_outside
from driftcli.statistics.grades import Grades, lost
from driftcli.statistics.intervals import within
from driftcli.statistics.walks import EXACT_TEXT, MINIMAL_PROMPTS, Floats, Sums, ratio

COUNTED = "count the draft vocabulary anew on the target's replies to prompts like these, or enlarge it"
SHARED = "take a drafter with the target's own tokenizer, as another size of its model family has"


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
        of_loss = f": {share.value:.0%} of all wrong first draft tokens" if isinstance(share, Estimate) else ""
        fix = SHARED if "tokens" in trace.pair.record else COUNTED
        claim, likely = f"{seen}{of_loss}{_worst(trace)}", self.grades.likely(outside)
        yield Finding("VOCAB-COVERAGE", severity, claim, outside, "share of the target's choices", fix, likely=likely)


@within(0, 1)
def outside_share(sums: Sums) -> Floats:
    """Share of the wanted tokens that the draft vocabulary lacks, at depth 1; (draw,)."""
    return 1 - covered(sums)


def _worst(trace: Trace) -> str:
    """The category that surely lacks more than all others, the worst of several."""
    usable = [name for name, prompts in trace.categories.items() if prompts >= MINIMAL_PROMPTS]
    found = {name: trace.contrast(outside_share, ratio, name, tries=len(usable)) for name in usable} if len(trace.categories) > 1 else {}
    more = {name: times.value for name, times in found.items() if isinstance(times, Estimate) and times.low > 1}
    worst = max(more, key=lambda name: more[name], default=None)
    there = trace.of_category(worst).estimate(outside_share) if worst else None
    return f"; most in {worst}, {there.value:.0%}" if isinstance(there, Estimate) else ""
