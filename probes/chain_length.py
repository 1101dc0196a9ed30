"""Do right guesses fall along the chain because the drafter feeds on its own state, and does the state or the attention move with it?

Judged on the baseline alone: damage is `compounding` at the run's depth, the loss beyond the first hand-off against the control of the
same tokens; a mechanism is growth of the state, or attention moving from the prompt onto the drafted tokens, against that same control.
Damage without a mechanism is an exposure gap, and leaves drift inconclusive. A grade is as high as the whole interval supports, so a
smaller run never says more.

Deeper chains, on anchors of their own, tell from which depth on compounding counts, which is about the unroll that a head was trained with,
and how far it goes beyond what the run drafts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from driftcli.conditions import Condition, DraftSettings
from driftcli.domain import Absent, Axis, Estimate, Finding, PairCard, RunSpec, Said, Severity, Skipped, Sound
from driftcli.probe import Trace, feeds_back_normed, trained
from driftcli.statistics.curves import (
    accuracy_gap,
    compounding,
    forced_accuracy,
    fresh_accuracy,
    prompt_side_change,
    region_change,
    rms_ratio,
)
from driftcli.statistics.grades import Grades
from driftcli.statistics.intervals import too_few
from driftcli.statistics.walks import EXACT_TEXT, MINIMAL_PROMPTS, Floats, Sums, ratio

DEEP, DEEPEST = "deep", 16  # condition and depth of the deeper chain; no server drafts more (chosen by us)
STILL = (  # what does not move, by whether a chain has no keys of its own
    "neither the RMS of the hidden state nor the attention moves",
    "the RMS of the hidden state does not move, and it has no keys of its own that attention could move to",
)
DEEPER, POST_NORM = "a deeper unroll", "post-norm feedback (EAGLE 3.1)"


@dataclass(frozen=True)
class ChainLength:
    """Curves by depth, hand-off, compounding, tax, and where the chain collapses."""

    name: str = "chain-length"
    axes: tuple[Axis, ...] = ("drift", "capacity")
    grades: Grades = field(default_factory=Grades)  # compounding from which it counts
    minimal_growth: float = (
        1.2  # state RMS over the control's; chosen by us: the paper's sound heads stay at 1, a drifting one grows to 3.6
    )
    minimal_change: float = 0.05  # attention share moved; chosen by us: the paper's sound heads move 0.03, a drifting one 0.38
    collapse: float = 0.5  # share of right guesses lost to self-feeding that counts as a collapse; chosen by us
    least_capacity: float = 0.1  # control accuracy below which there are too few right guesses to lose; chosen by us
    capacity: tuple[float, float, float] = (0.5, 0.35, 0.2)  # first-guess accuracy; chosen by us: public EAGLE-3 pairs keep 0.65 to 0.73

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """The baseline says most; one chain that is deeper, forced and free, where the run's are not as deep and nobody is in a hurry."""
        if spec.quick or spec.depth >= DEEPEST or pair.no_recursion is not None or pair.deepest is not None:
            return ()
        return (Condition(DEEP, DraftSettings(DEEPEST), self.name, controls=True, free=True, deeper=True),)

    def judge(self, trace: Trace) -> Iterator[Said]:
        """Drift findings need damage and a mechanism; capacity is judged beside."""
        yield from self._drift(trace)
        yield from self._capacity(trace)

    def _drift(self, trace: Trace) -> Iterator[Said]:
        if trace.pair.no_recursion is not None:
            yield Skipped("drift", "not applicable", trace.pair.no_recursion)
            return
        if trace.n_prompts < MINIMAL_PROMPTS:
            yield Skipped("drift", "inconclusive", too_few(trace.n_prompts))
            return
        damage, control = trace.by_depth(compounding)[-1], trace.by_depth(fresh_accuracy)[-1]
        if isinstance(control, Estimate) and control.low < self.least_capacity:
            yield Skipped(
                "drift",
                "inconclusive",
                f"only {control.value:.0%} of the draft tokens are right on the target's hidden state, too few to lose any",
            )
        elif trace.spec.depth < 3:
            yield Skipped("drift", "inconclusive", f"no loss can compound over {trace.spec.depth} draft tokens; draft at least 3 (--depth)")
        elif isinstance(damage, Absent):
            yield Skipped("drift", "inconclusive", damage.reason)
        elif damage.low > self.grades.mild:
            yield from self._drift_findings(trace, damage)
        elif damage.high > self.grades.mild:
            yield self._unsettled(trace, damage)
        elif DEEP in trace.measured:
            yield Sound(
                "drift", f"{damage.value:z.0%} of the accuracy at depth {trace.spec.depth} is lost beyond the hand-off{self._deeper(trace)}"
            )

    def _unsettled(self, trace: Trace, damage: Estimate) -> Said:
        """Open where nothing is shown and no moderate damage is left possible: drift decides the verdict, so more is asked of it."""
        lost = f"{damage.value:z.0%} [{damage.low:z.0%}, {damage.high:z.0%}] of the accuracy at depth {trace.spec.depth}"
        seen = f"{lost} is lost beyond the hand-off"
        if damage.low <= 0 and damage.high < self.grades.moderate:
            return self.grades.unsettled("drift", "open", seen, damage, limit=self.grades.mild)
        counts = f"{seen}, which straddles the {self.grades.mild:.0%} from which it counts"
        return self.grades.unsettled("drift", "straddles", counts, damage, limit=self.grades.mild)

    def _drift_findings(self, trace: Trace, damage: Estimate) -> Iterator[Finding | Skipped]:
        severity, likely = self.grades.of(damage), self.grades.likely(damage)
        fix = _training(trace, DEEPER if feeds_back_normed(trace) else POST_NORM)
        mechanisms = list(self._mechanisms(trace, damage, fix))
        yield from mechanisms
        fall = f"{damage.value:.0%} of the accuracy is lost beyond the hand-off"
        moving = "the hidden state" if trace.pair.keyless else "the hidden state or the attention"
        if not mechanisms and self._nothing_moved(trace):
            claim = f"{fall}, but {STILL[trace.pair.keyless]}: drift is not shown"
            yield Finding("EXPOSURE-GAP", severity, claim, damage, "share of right guesses", fix, likely=likely)
            yield Skipped("drift", "inconclusive", claim)
        elif not mechanisms:
            yield Skipped("drift", "inconclusive", f"{fall}; whether {moving} moved enough to call it drift is uncertain")
        if (where := self._collapse_depth(trace)) is not None:
            depth, lost = where
            many = f"more than {self.collapse:.0%} of the accuracy"
            claim = f"from depth {depth} on {many} is lost to self-feeding ({lost.value:.0%} there)"
            yield Finding("DEPTH-COLLAPSE", severity, claim, lost, "share of right guesses", _training(trace, DEEPER), likely=likely)

    def _mechanisms(self, trace: Trace, damage: Estimate, fix: str) -> Iterator[Finding]:
        severity, likely = self.grades.of(damage), self.grades.likely(damage)
        growth = trace.by_depth(rms_ratio)[-1]
        cost = f"{damage.value:.0%} of the accuracy lost beyond the hand-off{self._deeper(trace)}"
        if isinstance(growth, Estimate) and growth.low > self.minimal_growth:
            claim = f"{cost}; the hidden state is {growth.value:.1f}x [{growth.low:.1f}, {growth.high:.1f}] the target-fed one"
            yield Finding("DRIFT-STATE", severity, claim, growth, "RMS ratio", fix, likely=likely)
        if trace.pair.keyless:
            return
        off_prompt, ahead = trace.by_depth(prompt_side_change)[-1], trace.by_depth(region_change("ahead"))[-1]
        if isinstance(off_prompt, Estimate) and off_prompt.high < -self.minimal_change:
            claim = f"{cost}; attention to the prompt {_points(off_prompt)}"
            yield Finding("DRIFT-ATTENTION", severity, claim, off_prompt, "attention share", fix, likely=likely)
        elif isinstance(ahead, Estimate) and ahead.low > self.minimal_change:
            claim = f"{cost}; attention to its own draft tokens {_points(ahead)}"
            yield Finding("DRIFT-ATTENTION", severity, claim, ahead, "attention share", fix, likely=likely)

    def _deeper(self, trace: Trace) -> str:
        """From which depth on compounding surely counts, and what it comes to at the deepest, by the deeper chain where there is one."""
        deep = DEEP in trace.measured
        lost = trace.by_depth(compounding, DEEP if deep else None, tries=DEEPEST if deep else trace.spec.depth)
        opened = next((depth for depth, one in enumerate(lost, 1) if isinstance(one, Estimate) and one.low > self.grades.mild), None)
        last = lost[-1]
        told = "" if opened is None else f"significant from depth {opened}"
        if deep and isinstance(last, Estimate):
            told += f"{', ' if told else ''}{last.value:z.0%} at depth {len(lost)}"
        return f" ({told})" if told else ""

    def _nothing_moved(self, trace: Trace) -> bool:
        """Every mechanism's interval lies on the quiet side of its minimum."""
        growth, off_prompt, ahead = (trace.by_depth(s)[-1] for s in (rms_ratio, prompt_side_change, region_change("ahead")))
        state = isinstance(growth, Estimate) and growth.high <= self.minimal_growth
        if trace.pair.keyless:
            return state
        prompt = isinstance(off_prompt, Estimate) and off_prompt.low >= -self.minimal_change
        return state and prompt and isinstance(ahead, Estimate) and ahead.high <= self.minimal_change

    def _collapse_depth(self, trace: Trace) -> tuple[int, Estimate] | None:
        """The depth from which on, at every depth, more than `collapse` is lost, and the loss there."""
        found = None
        for depth, lost in reversed(list(enumerate(trace.by_depth(_lost, tries=trace.spec.depth), 1))):
            if not isinstance(lost, Estimate) or lost.low <= self.collapse:
                break
            found = depth, lost
        return found

    def _capacity(self, trace: Trace) -> Iterator[Finding | Skipped]:
        first = trace.by_depth(forced_accuracy)[0]
        if trace.argmax_share < EXACT_TEXT:
            seen = f"given replies are the target's own choice at only {trace.argmax_share:.0%} of their tokens"
            yield Skipped("capacity", "inconclusive", f"{seen}: where they differ the drafter may be right")
            return
        if trace.spec.temperature:
            drawn = f"replies are drawn at temperature {trace.spec.temperature:g}, where not even the target's first choice is always right"
            yield Skipped("capacity", "not applicable", f"{drawn}; what is low is known of greedy replies alone")
            return
        if isinstance(first, Absent) or trace.n_prompts < MINIMAL_PROMPTS:
            reason = first.reason if isinstance(first, Absent) else too_few(trace.n_prompts)
            yield Skipped("capacity", "inconclusive", reason)
            return
        grades: tuple[Severity, ...] = ("mild", "moderate", "severe")
        given = "" if trace.pair.no_recursion else ", on the target's hidden state"
        seen = f"the first draft token is right {first.value:.0%} [{first.low:.0%}, {first.high:.0%}] of the time{given}"
        if first.high < self.capacity[0]:
            severity = grades[sum(first.high < limit for limit in self.capacity[1:])]
            fix = trained(trace.pair, "train on more of the target's own replies")
            yield Finding("LOW-CAPACITY", severity, seen, first, "share of guesses", fix)
        elif first.low < self.capacity[0]:
            yield Skipped("capacity", "inconclusive", f"{seen}, which straddles the {self.capacity[0]:.0%} below which it is low")


def _lost(sums: Sums) -> Floats:
    """Share of right guesses lost to self-feeding, hand-off included."""
    return ratio(accuracy_gap(sums), fresh_accuracy(sums))


def _points(change: Estimate) -> str:
    return f"{100 * change.value:+z.0f} points [{100 * change.low:+z.0f}, {100 * change.high:+z.0f}]"


def _training(trace: Trace, what: str) -> str:
    """What training is asked for: by `driftcli heal` where that trains such heads."""
    return f"{'heal it (driftcli heal), or ' * trace.pair.heal_trains}retrain with {what}"
