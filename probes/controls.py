"""Is the drafter better than guesses that need no drafter, and is the run's acceptance what it seems to be?

Two floors stand on the very same anchors: the most frequent token of the other prompts' replies, and a lookup of the last tokens in the
text so far. A third one takes the meaning away: the words of the prompt in another order, with the run's own reply behind them. The target
itself is the ceiling: reading its own replies in one pass it should choose every token of them, and writing some of them again, one by
one, should change nothing; what it does change is the size below which no effect can be told from noise. And replies that go round in
circles are guessed by anybody, so acceptance is held against the rounds that begin elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from driftcli.conditions import Condition, DraftSettings, TextSettings
from driftcli.domain import Absent, Axis, Estimate, Finding, PairCard, RunSpec, Said, Skipped, Withheld
from driftcli.probe import Trace
from driftcli.statistics.curves import (
    accepted_drafts,
    calm_drafts,
    default_lookup_drafts,
    forced_accuracy,
    lookup_accuracy,
    lookup_drafts,
    looping_share,
    over_favourite,
    own_choices,
    vocabulary_lost,
)
from driftcli.statistics.grades import Grades, lost
from driftcli.statistics.walks import EXACT_TEXT, MINIMAL_PROMPTS, Floats, Sums, ratio

SHUFFLED, AGAIN = "shuffled-prompt", "repeated"  # conditions
LOOKUP = (
    'draft by n-gram lookup on such texts, it costs nothing (vLLM: --speculative-config: "method": "ngram", "prompt_lookup_min": 1, '
    '"prompt_lookup_max": 3)'
)
REPEATED = 16  # prompts that the target answers again, one by one (chosen by us)


def over_lookup(sums: Sums) -> Floats:
    """Drafts kept a round beyond those of a lookup; (draw,)."""
    return accepted_drafts(sums) - lookup_drafts(sums)


def calm_part(sums: Sums) -> Floats:
    """Drafts kept a round where the reply does not go round in circles, over those kept on the whole walk; (draw,)."""
    return ratio(calm_drafts(sums), accepted_drafts(sums))


@dataclass(frozen=True)
class Controls:
    """Floors, ceiling, noise and loops."""

    name: str = "controls"
    axes: tuple[Axis, ...] = ("wiring", "capacity")
    grades: Grades = field(default_factory=Grades)  # of accepted drafts that are owed to loops, or move when the same is run again
    minimal_gain: float = 0.02  # share of right first guesses that a sound head has above the floor; chosen by us

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """The shuffled prompt and the repeated subset; the other floors are counted on the baseline's own texts."""
        if spec.quick:
            return ()
        settings = DraftSettings(spec.depth)
        shuffled = Condition(SHUFFLED, settings, self.name, text=TextSettings(shuffled=True, replayed=True))
        again = Condition(AGAIN, settings, self.name, text=TextSettings(alone=True), prompts=REPEATED)
        return (*(() if pair.copies else (shuffled,)), *(() if spec.temperature else (again,)))

    def left_out(self, pair: PairCard, spec: RunSpec) -> Sequence[str]:
        """The repetition, where every reply is drawn anew."""
        if spec.quick or not spec.temperature:
            return []
        drawn = f"replies drawn at temperature {spec.temperature:g} differ whenever they are written"
        return [f"{self.name}: no reply is written again, and NONDETERMINISM is not measured: {drawn}"]

    def judge(self, trace: Trace) -> Iterator[Said]:
        """Findings where a floor is reached, a repetition moves the numbers of greedy replies, or loops carry them."""
        if trace.n_prompts < MINIMAL_PROMPTS or trace.argmax_share < EXACT_TEXT:
            return
        broken = [] if trace.pair.copies else list(self._at_the_floor(trace))
        yield from broken
        if not broken and not trace.pair.copies:  # a lookup is the floor itself
            yield from self._at_a_cheap_drafter(trace)
        if not trace.spec.temperature:
            yield from self._noise(trace)
        yield from self._loops(trace)

    def _at_the_floor(self, trace: Trace) -> Iterator[Said]:
        gain, first = trace.estimate(over_favourite), trace.by_depth(forced_accuracy)[0]
        if isinstance(gain, Absent) or isinstance(first, Absent) or gain.low > 0:
            return
        if vocabulary_lost(trace):
            yield from _nothing_of_its_own("the vocabulary map is lost")
            return
        floor = first.value - gain.value
        seen = f"the first draft token is right {first.value:.1%} of the time, the most frequent token alone {floor:.1%}"
        fix = "check that this head was trained for exactly these weights of the target, and export it again"
        if gain.high > self.minimal_gain:
            reason = f"{seen}; more prompts would tell whether anything is loaded as it should be"
            yield Skipped("wiring", "inconclusive", reason, fix)
            return
        whose = "this head does not belong to this target's weights (fine-tuned, rotated, re-quantised, other model), or its own are broken"
        yield Finding("LOAD-BROKEN", "miswired", f"{seen}: {whose}", gain, "share of right first guesses", fix)
        yield from _nothing_of_its_own("the head is no better than the most frequent token")

    def _at_a_cheap_drafter(self, trace: Trace) -> Iterator[Finding]:
        gain, lookup, first = trace.estimate(over_lookup), trace.estimate(lookup_drafts), trace.estimate(lookup_accuracy)
        if isinstance(gain, Estimate) and isinstance(lookup, Estimate) and gain.high <= 0:
            own = f"gets {lookup.value:.2f} draft tokens a round accepted, the drafter {lookup.value + gain.value:.2f}"
            right = f"; its first token is right {first.value:.0%} of the time" if isinstance(first, Estimate) else ""
            apart = f"a difference of {gain.value:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]"
            usual = trace.estimate(default_lookup_drafts)
            default = f"; a lookup of five tokens, vLLM's default, gets {usual.value:.2f}" if isinstance(usual, Estimate) else ""
            claim = f"a lookup of the last one to three tokens in the text so far {own}, {apart}{right}{default}"
            yield Finding("LOOKUP-ENOUGH", "mild", claim, gain, "drafts a round", LOOKUP)
        shuffled = _kept(trace, SHUFFLED)
        if shuffled is not None and shuffled.low > 1 - self.grades.mild:
            kept = f"{shuffled.value:.0%} [{shuffled.low:.0%}, {shuffled.high:.0%}] of the accepted draft tokens stay"
            claim = f"with the words of the prompt in another order {kept}: the drafter hardly uses what was asked"
            yield Finding("PROMPT-UNUSED", "mild", claim, shuffled, "share of accepted drafts", "train on more of the target's own replies")

    def _noise(self, trace: Trace) -> Iterator[Finding]:
        own, again = trace.estimate(own_choices), _kept(trace, AGAIN)
        moved = again is not None and not again.low <= 1 <= again.high and abs(again.value - 1) > self.grades.mild
        if not isinstance(own, Estimate) or (own.high >= EXACT_TEXT and not moved):
            return
        read = f"reading its own greedy replies in one pass the target would choose {own.value:.1%} of their tokens"
        size = ""
        if again is not None:
            kept = f"{again.value:.0%} [{again.low:.0%}, {again.high:.0%}] of the accepted draft tokens"
            size = f"; with {again.n_prompts} replies written one by one {kept} are left"
        fix = "treat smaller effects as noise; run in float32, or serve with batch-invariant kernels"
        yield Finding("NONDETERMINISM", "mild", f"{read}{size}", own, "share of reply tokens", fix)

    def _loops(self, trace: Trace) -> Iterator[Finding]:
        calm, share = trace.estimate(calm_part), trace.estimate(looping_share)
        kept, outside = trace.estimate(accepted_drafts), trace.estimate(calm_drafts)
        if isinstance(calm, Absent) or isinstance(share, Absent) or isinstance(kept, Absent) or isinstance(outside, Absent):
            return
        inflated = lost(calm)
        if inflated.low <= self.grades.mild:
            return
        where = f"at {share.value:.0%} of the positions the reply repeats itself"
        claim = f"{where}: {kept.value:.2f} accepted draft tokens a round, {outside.value:.2f} elsewhere, so {inflated.value:.0%}"
        claim += f" [{inflated.low:.0%}, {inflated.high:.0%}] of them are owed to loops"
        fix = "measure on prompts that this target answers without looping, or shorter (--max-new-tokens)"
        yield Finding("REPETITION-INFLATED", self.grades.of(inflated), claim, inflated, "share of accepted drafts", fix)


def _nothing_of_its_own(why: str) -> Iterator[Withheld]:
    """What cannot be judged of a head that knows nothing: neither does it drift, nor is it a matter of more training."""
    yield Withheld("drift", f"{why}, so there is nothing that could drift")
    yield Withheld("capacity", f"{why}, so what it was trained to cannot be seen")


def _kept(trace: Trace, condition: str) -> Estimate | None:
    """Share of the accepted drafts that stays under a condition, None where it was not measured or has no number."""
    share = trace.ratio_to_baseline(accepted_drafts, condition) if condition in trace.measured else None
    return share if isinstance(share, Estimate) else None
