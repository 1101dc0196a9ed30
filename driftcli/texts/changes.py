"""Other renderings of the same prompts and what they cost, judged alike by every probe that changes how a prompt is rendered.

Each change is measured twice: the run's own replies are put behind the changed prompts, so that the text to predict stays the same, and the
target answers anew, which is what a server would see. A finding needs a loss on both. The loss is not netted against fresh queries, since
they suffer too: it is split instead into the part of the first guess, which fresh queries lose, and the part of self-feeding, which is lost
beyond that. A target that is less sure of its own text under a change lowers acceptance as well; its entropy stands beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from driftcli.conditions import Condition, DraftSettings, TextSettings
from driftcli.domain import Absent, Axis, Estimate, Finding, Open, PairCard, RunSpec, Said, Skipped, Sound
from driftcli.probe import Trace, trained
from driftcli.statistics.curves import accepted_drafts, fresh_accepted, own_choices, target_entropy
from driftcli.statistics.grades import Grades, chosen, lost
from driftcli.statistics.intervals import too_few
from driftcli.statistics.walks import EXACT_TEXT, MINIMAL_PROMPTS, Floats, Sums, ratio


class Change(NamedTuple):
    """A change of the template: its condition's name, what it is in words, how texts are made, and what a target must have for it."""

    name: str
    words: str
    text: TextSettings
    needs: Sequence[str]


WITHOUT = {
    "templated": "the target has no chat template",
    "begins_with_bos": "the target's prompts do not begin with its BOS token",
    "names_roles": "the template names no role in words",
    "prompts_reply": "the template adds no prompt to answer",
    "thinks_if_asked": "the template has no switch for thinking",
    "thinks_unless_told": "the template has no switch for thinking",
    "takes_system": "the template takes no system message",
}


def own_part(sums: Sums) -> Floats:
    """Share of those that is left to the drafter on its own states; (draw,)."""
    return ratio(sums["accepted"], sums["fresh_accepted"])


NOT_MEASURED = Absent("not measured in this run")


@dataclass(frozen=True, slots=True)
class Losses:
    """Accepted drafts lost under a change, on the run's replies and on new ones, and how many tokens of the former the target would still
    choose: where nearly all, the same text decides, which is half as noisy; elsewhere a drafter may be right to guess otherwise.
    """

    replayed: Estimate | Absent
    answered: Estimate | Absent
    own_choices: float

    @property
    def same_text(self) -> bool:
        """Whether the target would still write the run's replies."""
        return self.own_choices >= EXACT_TEXT

    @property
    def decisive(self) -> Estimate | Absent:
        """The loss that is judged."""
        return self.replayed if self.same_text else self.answered

    @property
    def other_agrees(self) -> bool:
        """Whether the other way to look at it shows a loss too."""
        other = self.answered if self.same_text else self.replayed
        return isinstance(other, Estimate) and other.low > 0

    def told(self, trace: Trace) -> str:
        """Both in words, each with its prompts where they are not the run's."""
        drawn = self.same_text or trace.spec.temperature  # of replies that were drawn it would choose no more behind its own prompts
        still = "" if drawn else f", of which the target would still choose {self.own_choices:.0%}"
        same, new = _told(trace, self.replayed), _told(trace, self.answered)
        return f"{same} of the accepted draft tokens are lost on the same replies{still}, {new} on new ones"


def _told(trace: Trace, loss: Estimate | Absent) -> str:
    if isinstance(loss, Absent):
        return f"an unknown share ({loss.reason})"
    few = "" if loss.n_prompts == trace.n_prompts else f" ({loss.n_prompts} prompts)"
    return f"{loss:z.0%}{few}"


@dataclass(frozen=True)
class TextChanges:
    """Changes against the rendering as it is.

    changes: all that is tried; quick: names of those that --quick tries. fix: what to do where one costs.
    """

    name: str
    changes: tuple[Change, ...]
    quick: tuple[str, ...] = ()
    fix: str = "serve the template that the head was trained with; retrain with mixed templates, post-norm feedback and per-stream norms"
    axes: tuple[Axis, ...] = ("template",)
    grades: Grades = field(default_factory=Grades)  # of accepted drafts lost

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """Every change that this target's rendering admits, with the run's replies and answered anew."""
        found = []
        for change in self._admitted(pair, spec):
            for replayed in (False, True):
                text = replace(change.text, replayed=replayed)
                name = named(change, replayed=replayed)
                found.append(Condition(name, DraftSettings(spec.depth), self.name, controls=True, text=text))
        return found

    def left_out(self, pair: PairCard, spec: RunSpec) -> Sequence[str]:
        """Changes whose longer prompts the target's positions have no room for."""
        cut = [change.name for change in self._asked(pair, spec) if not _has_room(change, pair, spec)]
        return [f"{self.name}: {', '.join(cut)} left out: the target admits {pair.target_positions} positions"] if cut else []

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
        seen = {change: self._losses(trace, change, len(admitted)) for change in admitted}
        losses = {change: loss for change, both in seen.items() if isinstance(loss := both.decisive, Estimate)}
        if not losses:
            reason = next(loss.reason for both in seen.values() if isinstance(loss := both.decisive, Absent))
            return Open("template", f"not judged: {reason}")
        standing, change = self.grades.standing(losses)
        if standing == "found":
            sure = [one for one, loss in losses.items() if loss.low > self.grades.mild and seen[one].other_agrees]
            if not sure:
                return Skipped("template", "inconclusive", f"{change.words} {seen[change].told(trace)}, and not surely both")
            return self._finding(trace, max(sure, key=lambda one: losses[one].low), seen)
        if standing != "sound":
            told = f"{change.words} {seen[change].told(trace)}"
            return self.grades.unsettled("template", standing, told, losses[change], of=trace.n_prompts)
        least = f"no change of {len(losses)} costs {losses[change].high:.0%} of the accepted draft tokens or more"
        return Sound("template", f"{least}; most, {change.words} {seen[change].told(trace)}")

    def _losses(self, trace: Trace, change: Change, tries: int) -> Losses:
        """Accepted drafts lost under a change, the intervals for all changes at once."""
        found: list[Estimate | Absent] = []
        for name in (named(change, replayed=True), named(change)):
            kept = trace.ratio_to_baseline(accepted_drafts, name, tries) if name in trace.measured else NOT_MEASURED
            found.append(lost(kept) if isinstance(kept, Estimate) else kept)
        own = trace.estimate(own_choices, named(change, replayed=True)) if isinstance(found[0], Estimate) else NOT_MEASURED
        return Losses(found[0], found[1], own.value if isinstance(own, Estimate) else 0.0)

    def _admitted(self, pair: PairCard, spec: RunSpec) -> list[Change]:
        """Changes that this target's rendering admits and that leave its positions room for a conversation of that length again."""
        return [change for change in self._asked(pair, spec) if _has_room(change, pair, spec)]

    def _asked(self, pair: PairCard, spec: RunSpec) -> list[Change]:
        """Changes that are asked for and that this target's rendering admits."""
        able = [change for change in self.changes if all(getattr(pair.rendering, need) for need in change.needs)]
        return [change for change in able if not spec.quick or change.name in self.quick]

    def _finding(self, trace: Trace, change: Change, seen: Mapping[Change, Losses]) -> Finding:
        both, tried = seen[change], len(seen)
        assert isinstance(both.decisive, Estimate)
        loss = chosen(both.decisive, self.grades.mild, tried)
        surest = f" (surest of {tried} changes, intervals for all of them)" if tried > 1 else ""
        size = f"; corrected for having been chosen, {loss.value:.0%}" if tried > 1 else ""
        name, severity, likely = named(change, replayed=both.same_text), self.grades.of(loss), self.grades.likely(loss)
        claim = f"{change.words} {both.told(trace)}{surest}{size}{_parts(trace, name)}{_certainty(trace, name)}"
        return Finding("TEMPLATE-SENSITIVE", severity, claim, loss, "share of accepted drafts", trained(trace.pair, self.fix), name, likely)


def _has_room(change: Change, pair: PairCard, spec: RunSpec) -> bool:
    """Whether the target's positions leave room for a conversation of that length again."""
    room = pair.target_positions
    return room is None or 2 * change.text.system_tokens + spec.max_new_tokens <= room


def named(change: Change, *, replayed: bool = False) -> str:
    """The condition of a change."""
    return f"{change.name}-replayed" if replayed else change.name


def _parts(trace: Trace, condition: str) -> str:
    """How the loss splits over all anchors, as shares that multiply, where the drafter feeds on its own state."""
    if trace.pair.no_recursion is not None:
        return ""
    first, own = (trace.ratio_to_baseline(part, condition) for part in (fresh_accepted, own_part))
    if isinstance(first, Absent) or isinstance(own, Absent):
        return ""
    return f"; over all positions {1 - first.value:z.0%} on the target's hidden state, {1 - own.value:z.0%} beyond that by self-feeding"


def _certainty(trace: Trace, condition: str) -> str:
    """The target's entropy as the text is and under the change."""
    here, there = trace.estimate(target_entropy), trace.estimate(target_entropy, condition)
    if isinstance(here, Absent) or isinstance(there, Absent):
        return ""
    return f"; the target's entropy goes from {here.value:.2f} to {there.value:.2f} nats"
