"""Is the drafter worse in one category of prompts than in the others, beyond what makes those texts harder to guess?

Some texts are harder for any drafter, because the target is less sure of them. So right first guesses of a category are held against what
the drafter manages elsewhere where the target is as sure of the token: what is left is the drafter's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from driftcli.curves import accepted_drafts, covered, first_by_certainty, over_expected
from driftcli.domain import Axis, Condition, Estimate, Finding, PairCard, RunSpec, Said, Skipped, Sound
from driftcli.grades import Grades, lost
from driftcli.probe import Trace
from driftcli.stats import EXACT_TEXT, MINIMAL_PROMPTS


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
            yield Skipped("domain", "inconclusive", f"{few}; one such and another are needed")
            return
        if trace.argmax_share < EXACT_TEXT:
            yield Skipped("domain", "inconclusive", "the given replies are not the target's own, so its certainty says nothing of them")
            return
        found = {name: trace.contrast(first_by_certainty, over_expected, name, tries=len(usable)) for name in usable}
        known = {name: share for name, share in found.items() if isinstance(share, Estimate)}
        worse = {name: share for name, share in known.items() if share.high < 1 - self.grades.mild}
        yield from (self._finding(trace, name, share) for name, share in worse.items())
        if not known:
            yield Skipped("domain", "inconclusive", "no category has guesses of a certainty that others have too")
        elif not worse:
            name = min(known, key=lambda one: known[one].value)
            worst = known[name]
            least = f"{name} has {worst.value:.0%} [{worst.low:.0%}, {worst.high:.0%}] of the right first guesses expected there"
            if any(self.grades.may_matter(lost(share)) for share in known.values()):
                yield Skipped("domain", "inconclusive", f"{least}; more prompts would tell")
            else:
                yield Sound("domain", f"no category of {len(known)} is surely worse than the others; {least}")

    def _finding(self, trace: Trace, name: str, share: Estimate) -> Finding:
        loss = lost(share)
        own = trace.of_category(name)
        kept, inside = own.estimate(accepted_drafts), own.estimate(covered)
        beside = f"; {kept.value:.2f} accepted drafts a round" if isinstance(kept, Estimate) else ""
        outside = f", {1 - inside.value:.0%} of the wanted tokens outside the draft vocabulary" if isinstance(inside, Estimate) else ""
        seen = f"in {name} {loss.value:.0%} [{loss.low:.0%}, {loss.high:.0%}] of the right first guesses are missing"
        claim = f"{seen} that the target's certainty lets expect from the other prompts{beside}{outside}"
        fix = f"train on more of the target's own replies to prompts like {name}"
        return Finding("DOMAIN-SHIFT", self.grades.of(loss), claim, loss, "share of right first guesses", fix)
