"""What does the drafter lose because the target is another than its twin, such as the float model that it was trained on?

Asked where a run is held against that of the twin (`--against-target`). Three acceptance lengths part the loss: the twin's on its own
replies; on the same replies with this target's streams, where nothing but the drafts can differ; and this target's on its own replies. From
the first to the second the streams cost, from the second to the third the target's tokens: wanted ones that differ, and all text behind
them. The two add up to the whole, which is graded as a share of the accepted drafts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from driftcli.conditions import Condition, DraftSettings, TextSettings
from driftcli.domain import Absent, Axis, Estimate, Finding, PairCard, RunSpec, Said, Skipped, Sound
from driftcli.probe import Trace
from driftcli.statistics.curves import accepted_drafts, against_twin
from driftcli.statistics.grades import Grades, drafts_lost, lost
from driftcli.statistics.shift import TWIN, TWIN_REPLIES, Shift, parted_share, signed
from driftcli.statistics.walks import EXACT_TEXT

TARGET_SHIFT = "target-shift"
RETRAIN = "train the drafter on this target's own replies and streams, or serve the twin"
KEEP = "keep the target's layers whose streams the drafter reads, and those before them, in higher precision, or train it on these streams"


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
        why = "the twin's replies were not measured here" if shift is None else self._not_comparable(trace, shift)
        kept = Absent(why) if why else trace.ratio(accepted_drafts, trace.reference, over=TWIN)
        if shift is None or isinstance(kept, Absent):
            yield Skipped("domain", "inconclusive", f"not held against the twin: {kept.reason if isinstance(kept, Absent) else why}")
        elif shift.same:
            yield Sound("domain", f"the twin is the same target, computed alike: {_seen(trace, shift, lost(kept))}")
        else:
            yield self._judged(trace, shift, lost(kept))

    @staticmethod
    def _not_comparable(trace: Trace, shift: Shift) -> str:
        """Why nothing can be said, empty where something can."""
        if shift.other_wiring:
            return f"the head is put together otherwise, {shift.other_wiring}"
        return "the replies of this run are not the target's own" if trace.argmax_share < EXACT_TEXT else ""

    def _judged(self, trace: Trace, shift: Shift, loss: Estimate) -> Said:
        standing, _ = self.grades.standing({TWIN: loss})
        seen = f"no shift seen {_seen(trace, shift, loss)}" if loss.low <= 0 <= loss.high else _seen(trace, shift, loss)
        if standing == "sound":
            return Sound("domain", f"{seen}; a loss of {loss.high:.0%} or more is excluded")
        if standing != "found":
            return self.grades.unsettled("domain", standing, seen, loss)
        fix = KEEP if _streams_cost_more(trace) else RETRAIN
        unit, likely = "share of accepted drafts", self.grades.likely(loss)
        return Finding("TARGET-SHIFT", self.grades.of(loss), seen, loss, unit, fix, likely=likely)


def _streams_cost_more(trace: Trace) -> bool:
    """Whether more of the loss comes from other streams than from other tokens."""
    _, streams, tokens = against_twin(trace)
    return streams.value is not None and tokens.value is not None and streams.value < tokens.value


def _seen(trace: Trace, shift: Shift, loss: Estimate) -> str:
    """The loss, its parts in tokens a round, and how many replies differ."""
    whole, streams, tokens = map(signed, against_twin(trace))
    parted = shift.estimate(parted_share)
    differ = "" if parted.value is None else f"; {parted.value:.0%} of the replies differ"
    parts = f"acceptance length {whole}: {streams} by other streams, {tokens} by other tokens"
    return f"against {shift.twin} {drafts_lost(loss)} ({parts}){differ}"
