"""Is the drafter worse in one category of prompts than in the others, beyond what makes those texts harder to guess?

Some texts are harder for any drafter, because the target is less sure of them. So right first guesses of a category are held against what
the drafter manages elsewhere where the target is as sure of the token: what is left is the drafter's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from driftcli.conditions import Condition
from driftcli.domain import Axis, Estimate, Finding, Open, PairCard, RunSpec, Said, Skipped, Sound
from driftcli.probe import Trace, trained
from driftcli.statistics.curves import accepted_drafts, covered, first_by_certainty, over_expected
from driftcli.statistics.grades import Grades, chosen, lost
from driftcli.statistics.walks import EXACT_TEXT, MINIMAL_PROMPTS


@dataclass(frozen=True)
class DomainShift:
    """Every category with enough prompts against all other prompts."""

    name: str = "domain"
    axes: tuple[Axis, ...] = ("domain",)
    grades: Grades = field(default_factory=Grades)  # of right first guesses lost

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """The baseline's guesses say it."""
        return ()

    def judge(self, trace: Trace) -> Iterator[Said]:
        """A finding for every category that loses right guesses for sure, whatever the target's certainty explains."""
        usable = [name for name, prompts in trace.categories.items() if prompts >= MINIMAL_PROMPTS]
        if len(trace.categories) < 2 or not usable:
            few = f"the prompts have {len(trace.categories)} categories, {len(usable)} of them with at least {MINIMAL_PROMPTS} prompts"
            yield Open("domain", f"not judged: {few}; one such and another are needed")
        elif trace.argmax_share < EXACT_TEXT:
            yield Skipped("domain", "inconclusive", "the given replies are not the target's own, so its certainty says nothing of them")
        else:
            yield from self._judged(trace, usable)

    def _judged(self, trace: Trace, usable: Sequence[str]) -> Iterator[Said]:
        found = {name: trace.contrast(first_by_certainty, over_expected, name, tries=len(usable)) for name in usable}
        losses = {
            name: replace(lost(share), n_prompts=trace.categories[name]) for name, share in found.items() if isinstance(share, Estimate)
        }
        if not losses:
            yield Skipped("domain", "inconclusive", "no category has tokens of which the target is as certain as elsewhere")
            return
        standing, name = self.grades.standing(losses)
        loss = losses[name]
        seen = f"in {name} {loss.value:z.0%} [{loss.low:z.0%}, {loss.high:z.0%}] of the expected first-token accuracy is missing"
        if standing == "found":
            yield from (self._finding(trace, name, loss, len(usable)) for name, loss in losses.items() if loss.low > self.grades.mild)
        elif standing == "sound":
            yield Sound("domain", f"no category of {len(losses)} misses {loss.high:.0%} or more; {seen}")
        else:
            yield self.grades.unsettled("domain", standing, seen, loss, each=" of that category")

    def _finding(self, trace: Trace, name: str, seen: Estimate, tried: int) -> Finding:
        loss = chosen(seen, self.grades.mild, tried)
        own = trace.of_category(name)
        kept, inside = own.estimate(accepted_drafts), own.estimate(covered)
        beside = f"; {kept.value:.2f} accepted draft tokens a round" if isinstance(kept, Estimate) else ""
        outside = f", {1 - inside.value:.0%} of the wanted tokens outside the draft vocabulary" if isinstance(inside, Estimate) else ""
        missing = f"in {name} {loss.value:.0%} [{loss.low:.0%}, {loss.high:.0%}] of the first-token accuracy is missing"
        claim = f"{missing} that other prompts have where the target is as certain{beside}{outside}"
        fix = trained(trace.pair, f"train on more of the target's own replies to prompts like {name}")
        unit, likely = "share of right first guesses", self.grades.likely(loss)
        return Finding("DOMAIN-SHIFT", self.grades.of(loss), claim, loss, unit, fix, likely=likely, category=name)
