"""Other renderings of the same prompts and what they cost, judged alike by every probe that changes how a prompt is rendered.

Each change is measured twice: the target answers anew under it, which is what a server would see, and the run's own replies are put behind
the changed prompts, so that the text to predict stays the same. The loss is not netted against fresh queries, since they suffer too: it is
split instead into the part of the first guess, which fresh queries lose, and the part of self-feeding, which is lost beyond that. A target
that is less sure of its own text under a change lowers acceptance as well; its entropy stands beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from driftcli.grades import Grades, drafts_lost, lost
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

    changes: all that is tried; quick: names of those that --quick tries, answered anew alone. prompts: on how many of the run's, all for 0.
    """

    name: str
    changes: tuple[Change, ...]
    quick: tuple[str, ...] = ()
    prompts: int = 0
    axes: tuple[Axis, ...] = ("template",)
    grades: Grades = field(default_factory=Grades)  # of accepted drafts lost

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """Every change that this target's rendering admits, answered anew and with the run's replies."""
        found = []
        for change in self._admitted(pair, spec):
            for replayed in (False,) if spec.quick else (False, True):
                text = replace(change.text, replayed=replayed)
                name = _named(change, replayed=replayed)
                found.append(Condition(name, DraftSettings(spec.depth), self.name, controls=True, text=text, prompts=self.prompts))
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
        kept = [(change, trace.ratio_to_baseline(accepted_drafts, _named(change), tries=len(admitted))) for change in admitted]
        known = [(change, share) for change, share in kept if isinstance(share, Estimate)]
        if not known:
            return Skipped("template", "inconclusive", next(share.reason for _, share in kept if isinstance(share, Absent)))
        sure, share = min(known, key=lambda one: one[1].high)
        if share.high < 1 - self.grades.mild:
            return self._finding(trace, sure, share, len(admitted))
        change, open = min(known, key=lambda one: one[1].value)
        most = f"{change.words} {drafts_lost(lost(open))}"
        if any(self.grades.may_matter(lost(one)) for _, one in known):
            return Skipped("template", "inconclusive", f"{most}, {self.grades.undecided}")
        return Sound("template", f"no change of {len(admitted)} surely costs {self.grades.mild:.0%} of the accepted drafts; most, {most}")

    def _admitted(self, pair: PairCard, spec: RunSpec) -> list[Change]:
        """Changes that this target's rendering admits and that leave its positions room for a conversation of that length again."""
        able = [change for change in self.changes if all(getattr(pair.rendering, need) for need in change.needs)]
        room = pair.target_positions
        short = [change for change in able if room is None or 2 * change.text.system_tokens + spec.max_new_tokens <= room]
        return [change for change in short if not spec.quick or change.name in self.quick]

    def _finding(self, trace: Trace, change: Change, share: Estimate, tried: int) -> Finding:
        loss = lost(share)
        seen = f"{change.words} {drafts_lost(loss)} (surest of {tried} changes, interval for all of them)"
        claim = f"{seen}{_parts(trace, change)}{_certainty(trace, change)}"
        fix = "serve the template that the head was trained with; retrain with mixed templates, post-norm feedback and per-stream norms"
        return Finding("TEMPLATE-SENSITIVE", self.grades.of(loss), claim, loss, "share of accepted drafts", fix, _named(change))


def _named(change: Change, *, replayed: bool = False) -> str:
    return f"{change.name}-replayed" if replayed else change.name


def _parts(trace: Trace, change: Change) -> str:
    """How the loss splits over all anchors, as shares that multiply, where the drafter feeds on its own state."""
    if trace.pair.no_recursion is not None:
        return ""
    first, own = (trace.ratio_to_baseline(part, _named(change)) for part in (first_part, own_part))
    if isinstance(first, Absent) or isinstance(own, Absent):
        return ""
    return f"; over all anchors fresh queries lose {1 - first.value:z.0%}, self-feeding {1 - own.value:z.0%} beyond that"


def _certainty(trace: Trace, change: Change) -> str:
    """The target's entropy as the text is and under the change."""
    here, there = trace.estimate(target_entropy), trace.estimate(target_entropy, _named(change))
    if isinstance(here, Absent) or isinstance(there, Absent):
        return ""
    return f"; the target's entropy goes from {here.value:.2f} to {there.value:.2f} nats"
