"""What does the drafter lose because the target is another than its twin, such as the float model that it was trained on?

Asked where a run is held against that of the twin (`--against-target`). The loss is graded as a share of the accepted drafts of each target
on its own replies. Its parts (`driftcli.statistics.shift`) say whether the drafter guesses otherwise because it reads other streams, or the
target wants other tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from driftcli.conditions import Condition, DraftSettings, TextSettings
from driftcli.domain import Absent, Axis, Estimate, Finding, PairCard, RunSpec, Said, Skipped, Sound
from driftcli.probe import Trace
from driftcli.statistics.grades import Grades, drafts_lost, lost
from driftcli.statistics.shift import PARTS, TWIN, TWIN_REPLIES, Shift, parted_share, signed

TARGET_SHIFT = "target-shift"
RETRAIN = "train the drafter on this target's own replies and hidden states, or serve the twin"
KEEP = "keep the target's layers up to the last one that the drafter reads in higher precision, or train it on this target's hidden states"


@dataclass(frozen=True)
class TargetShift:
    """Accepted drafts on this target's replies over those on the twin's."""

    name: str = TARGET_SHIFT
    axes: tuple[Axis, ...] = ("domain",)
    grades: Grades = field(default_factory=Grades)  # of accepted drafts lost

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """The twin's rows, and its replies as this target reads them; none for a run that is held against no twin."""
        if not spec.against:
            return ()
        taken = (TextSettings(twin="rows"), TextSettings(twin="replies"))
        return [
            Condition(name, DraftSettings(spec.depth), self.name, text=text) for name, text in zip((TWIN, TWIN_REPLIES), taken, strict=True)
        ]

    def judge(self, trace: Trace) -> Iterator[Said]:
        """A finding where accepted drafts surely are lost against the twin, else whether such a loss is excluded."""
        if not trace.spec.against:
            return
        shift = trace.shift
        if shift is None:
            yield Skipped("domain", "inconclusive", "not held against the twin: its replies were not measured here")
        elif shift.other_wiring:
            yield Skipped("domain", "inconclusive", f"not held against the twin: the head is put together otherwise, {shift.other_wiring}")
        elif isinstance(kept := shift.kept(), Absent):
            yield Skipped("domain", "inconclusive", f"not held against the twin: {kept.reason}")
        else:
            yield self._judged(shift, lost(kept))

    def _judged(self, shift: Shift, loss: Estimate) -> Said:
        standing, _ = self.grades.standing({TWIN: loss})
        seen = _seen(shift, loss)
        if shift.same:
            differs = "and nothing differs" if shift.nothing_differs else f"so what differs is rounding: {seen}"
            return Sound("domain", f"the twin is the same target, computed alike, {differs}")
        if standing == "sound":
            return Sound("domain", f"{seen}; a loss of {loss.high:.0%} or more is excluded")
        if standing != "found":
            return self.grades.unsettled("domain", standing, seen, loss)
        unit, likely = "share of accepted drafts", self.grades.likely(loss)
        return Finding("TARGET-SHIFT", self.grades.of(loss), seen, loss, unit, _fix(shift), likely=likely)


def _fix(shift: Shift) -> str:
    """What to do first, by what costs more."""
    streams, tokens = shift.change("twin", "streams"), shift.change("streams", "here")
    streams_cost_more = streams.value is not None and tokens.value is not None and streams.value < tokens.value
    return KEEP if streams_cost_more else RETRAIN


def _seen(shift: Shift, loss: Estimate) -> str:
    """The loss, its parts in tokens a round, and how many replies differ."""
    known = [(words, shift.change(before, after).value) for words, before, after in PARTS]
    parts = ", ".join(f"{value:+z.2f} by {words}" for words, value in known if value is not None)
    parted = shift.estimate(parted_share)
    differ = "" if parted.value is None else f"; {parted.value:.0%} of the replies differ"
    none = "no shift seen, " if loss.low <= 0 <= loss.high else ""
    whole = f"acceptance length {signed(shift.change('twin', 'here'))}: {parts}"
    return f"{none}against {shift.twin} {drafts_lost(loss)} ({whole}){differ}"
