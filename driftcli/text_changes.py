"""Other renderings of the same prompts and what they cost, judged alike by every probe that changes how a prompt is rendered.

Each change is measured twice: the run's own replies are put behind the changed prompts, so that the text to predict stays the same, and the
target answers anew, which is what a server would see. The first is judged, since what is lost there is the drafter's own and half as noisy;
a finding needs a loss on new replies too. The loss is not netted against fresh queries, since they suffer too: it is
split instead into the part of the first guess, which fresh queries lose, and the part of self-feeding, which is lost beyond that. A target
that is less sure of its own text under a change lowers acceptance as well; its entropy stands beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from driftcli.curves import accepted_drafts, target_entropy
from driftcli.domain import (
    Absent,
    Axis,
    Condition,
    DraftSettings,
    Estimate,
    Finding,
    PairCard,
    RunSpec,
    Said,
    Skipped,
    Sound,
    TextSettings,
)
from driftcli.grades import Grades, chosen, drafts_lost, lost
from driftcli.intervals import too_few
from driftcli.probe import Trace
from driftcli.stats import EXACT_TEXT, MINIMAL_PROMPTS, Floats, Sums, ratio


class Change(NamedTuple):
    """A change of the template: its condition's name, what it is in words, how texts are made, and what a target must have for it."""

    name: str
    words: str
    text: TextSettings
    needs: Sequence[str]


WITHOUT = {
    "templated": "the target has no chat template",
    "begins_with_bos": "the target's prompts do not begin with its BoS token",
    "names_roles": "the template names no role in words",
    "prompts_reply": "the template adds no prompt to answer",
    "thinks_if_asked": "the template has no switch for thinking",
    "thinks_unless_told": "the template has no switch for thinking",
    "takes_system": "the template takes no system message",
}


def first_part(sums: Sums) -> Floats:
    """Drafts an anchor that fresh queries would get accepted; (draw,)."""
    return ratio(sums["fresh_accepted"], sums["anchors"])


def own_part(sums: Sums) -> Floats:
    """Share of those that is left to the drafter on its own states; (draw,)."""
    return ratio(sums["accepted"], sums["fresh_accepted"])


@dataclass(frozen=True)
class TextChanges:
    """Changes against the rendering as it is.

    changes: all that is tried; quick: names of those that --quick tries. answered: how many of the run's prompts the target answers anew,
    all for 0; its replies to all of them are replayed. fix: what to do where one costs.
    """

    name: str
    changes: tuple[Change, ...]
    quick: tuple[str, ...] = ()
    answered: int = 0
    fix: str = "serve the template that the head was trained with; retrain with mixed templates, post-norm feedback and per-stream norms"
    axes: tuple[Axis, ...] = ("template",)
    grades: Grades = field(default_factory=Grades)  # of accepted drafts lost

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """Every change that this target's rendering admits, with the run's replies and answered anew."""
        found = []
        for change in self._admitted(pair, spec):
            for replayed, prompts in ((False, self.answered), (True, 0)):
                text = replace(change.text, replayed=replayed)
                name = named(change, replayed=replayed)
                found.append(Condition(name, DraftSettings(spec.depth), self.name, controls=True, text=text, prompts=prompts))
        return found

    def judge(self, trace: Trace) -> Iterator[Said]:
        """The worst change that costs accepted drafts, over all that were tried."""
        admitted = self._admitted(trace.pair, trace.spec)
        if not admitted:
            lacking = dict.fromkeys(WITHOUT[need] for change in self.changes for need in change.needs)
            yield Skipped("template", "not applicable", "; ".join(lacking))
        elif trace.argmax_share < EXACT_TEXT:
            yield Skipped(
                "template", "inconclusive", "the given replies are not the target's own, so a change has nothing to be held against"
            )
        elif trace.n_prompts < MINIMAL_PROMPTS:
            yield Skipped("template", "inconclusive", too_few(trace.n_prompts))
        else:
            yield self._judged(trace, admitted)

    def _judged(self, trace: Trace, admitted: Sequence[Change]) -> Said:
        replayed, answered = (self._losses(trace, admitted, replayed=way) for way in (True, False))
        losses = {change: loss for change, loss in replayed.items() if isinstance(loss, Estimate)}
        if not losses:
            return Skipped("template", "inconclusive", next(loss.reason for loss in replayed.values() if isinstance(loss, Absent)))
        standing, change = self.grades.standing(losses)
        if standing == "found":
            sure = [one for one, loss in losses.items() if loss.low > self.grades.mild]
            served = [one for one in sure if isinstance(loss := answered[one], Estimate) and loss.low > 0]
            if not served:
                return Skipped("template", "inconclusive", f"{_seen(change, losses[change])}, {_answered(trace, answered[change])}")
            return self._finding(trace, max(served, key=lambda one: losses[one].low), losses, answered)
        if standing != "sound":
            return self.grades.unsettled("template", standing, _seen(change, losses[change]), losses[change])
        least = f"no change of {len(losses)} costs {losses[change].high:.0%} of the accepted drafts or more on the same replies"
        return Sound("template", f"{least}; {self._harder(trace, answered)}")

    def _losses(self, trace: Trace, admitted: Sequence[Change], *, replayed: bool) -> dict[Change, Estimate | Absent]:
        """Accepted drafts lost under each change, on the run's replies or on new ones, the intervals for all of them at once."""
        found: dict[Change, Estimate | Absent] = {}
        for change in admitted:
            name = named(change, replayed=replayed)
            kept = trace.ratio_to_baseline(accepted_drafts, name, tries=len(admitted)) if name in trace.measured else NOT_MEASURED
            found[change] = lost(kept) if isinstance(kept, Estimate) else kept
        return found

    def _harder(self, trace: Trace, answered: Mapping[Change, Estimate | Absent]) -> str:
        """Where the target's new replies alone are guessed less often: that is the text, not the drafter."""
        known = {change: loss for change, loss in answered.items() if isinstance(loss, Estimate)}
        worst = max(known, key=lambda change: known[change].low, default=None)
        if worst is None or known[worst].low <= self.grades.mild:
            return "nor surely on new ones"
        return f"{worst.words} {drafts_lost(known[worst])} on new replies, which are harder to guess{_certainty(trace, worst)}"

    def _admitted(self, pair: PairCard, spec: RunSpec) -> list[Change]:
        """Changes that this target's rendering admits and that leave its positions room for a conversation of that length again."""
        able = [change for change in self.changes if all(getattr(pair.rendering, need) for need in change.needs)]
        room = pair.target_positions
        short = [change for change in able if room is None or 2 * change.text.system_tokens + spec.max_new_tokens <= room]
        return [change for change in short if not spec.quick or change.name in self.quick]

    def _finding(
        self, trace: Trace, change: Change, losses: Mapping[Change, Estimate], answered: Mapping[Change, Estimate | Absent]
    ) -> Finding:
        loss, tried = chosen(losses[change], self.grades.mild, len(answered)), len(answered)
        surest = f" (surest of {tried} changes, intervals for all of them, the size corrected for the choice)" if tried > 1 else ""
        claim = f"{_seen(change, loss)}, {_answered(trace, answered[change])}{surest}{_parts(trace, change)}{_certainty(trace, change)}"
        name, severity = named(change, replayed=True), self.grades.of(loss)
        unit = "share of accepted drafts"
        return Finding("TEMPLATE-SENSITIVE", severity, claim, loss, unit, self.fix, name, self.grades.likely(loss))


NOT_MEASURED = Absent("not measured in this run")


def named(change: Change, *, replayed: bool = False) -> str:
    """The condition of a change."""
    return f"{change.name}-replayed" if replayed else change.name


def _seen(change: Change, loss: Estimate) -> str:
    return f"{change.words} {drafts_lost(loss)} on the same replies"


def _answered(trace: Trace, loss: Estimate | Absent) -> str:
    """What is lost where the target answers anew, and of how many prompts."""
    if isinstance(loss, Absent):
        return f"on new ones nothing is known ({loss.reason})"
    few = "" if loss.n_prompts == trace.n_prompts else f" ({loss.n_prompts} prompts)"
    return f"{loss.value:z.0%} [{loss.low:z.0%}, {loss.high:z.0%}] on new ones{few}"


def _parts(trace: Trace, change: Change) -> str:
    """How the loss splits over all anchors, as shares that multiply, where the drafter feeds on its own state."""
    if trace.pair.no_recursion is not None:
        return ""
    first, own = (trace.ratio_to_baseline(part, named(change)) for part in (first_part, own_part))
    if isinstance(first, Absent) or isinstance(own, Absent):
        return ""
    return f"; over all anchors fresh queries lose {1 - first.value:z.0%}, self-feeding {1 - own.value:z.0%} beyond that"


def _certainty(trace: Trace, change: Change) -> str:
    """The target's entropy as the text is and under the change."""
    here, there = trace.estimate(target_entropy), trace.estimate(target_entropy, named(change))
    if isinstance(here, Absent) or isinstance(there, Absent):
        return ""
    return f"; the target's entropy goes from {here.value:.2f} to {there.value:.2f} nats"
