"""Does acceptance fall as the context grows, and does a window on the drafter give it back?

Long prompts are conversations of the run put in front of the question, so the words are of one kind at every length; only the reply is
drafted on. A fall that a window restores on the very same texts is attention lost in the length. A fall that no window restores is
something else: a range of positions that ends, or texts longer than any in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from driftcli.conditions import Condition, DraftSettings, TextSettings
from driftcli.domain import Absent, Axis, Estimate, Finding, PairCard, RunSpec, Said, Skipped, Sound
from driftcli.probe import Trace, trained
from driftcli.statistics.curves import accepted_drafts
from driftcli.statistics.grades import Grades, chosen, drafts_lost, lost
from driftcli.statistics.walks import EXACT_TEXT

LENGTHS = (512, 1024, 2048)  # tokens of a prompt where --lengths names none; chosen by us: up to the range that heads are mostly trained on
WINDOWS = (256, 512, 1024, 2048)  # rows; arXiv:2605.09992 finds 256 to keep 80% and 1024 to keep all
KEPT: tuple[Literal["nothing", "sink", "system"], ...] = ("nothing", "sink", "system")
PROMPTS = 128  # that are asked at every length, as far as there are so many; as many as settle 15% in 19 of 20 simulated sound pairs
MINIMAL_GAIN = 1.02  # what a window must give to be worth a change of settings; chosen by us, as for every mitigation
KNOWN_TRAINING = 2048  # tokens; what no config says, heads are mostly trained up to (arXiv:2503.01840 and its code)


@dataclass(frozen=True)
class ContextLength:
    """Prompts of several lengths, drafted on in full and through windows."""

    name: str = "context-length"
    axes: tuple[Axis, ...] = ("context",)
    grades: Grades = field(default_factory=Grades)  # of accepted drafts lost

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """Full attention first at every length, which finds the sinks; then, for a drafter whose windows can be set, each window."""
        found = []
        for length in lengths(pair, spec):
            settings = [DraftSettings(spec.depth), *(windows(length, spec.depth) if pair.steers_attention else ())]
            text = TextSettings(length=length)
            found += [Condition(_named(length, one), one, self.name, text=text, prompts=PROMPTS) for one in settings]
        return found

    def left_out(self, pair: PairCard, spec: RunSpec) -> Sequence[str]:
        """Lengths that the models do not admit: those asked for, or the usual ones."""
        beyond = sorted(set(spec.lengths or LENGTHS) - set(lengths(pair, spec)))
        if not beyond:
            return []
        limit, whose = min(_limits(pair, spec))
        positions = f"{whose} {limit} positions, {spec.max_new_tokens} of them for the reply (--max-new-tokens)"
        return [f"{self.name}: {', '.join(map(str, beyond))} left out: {positions}"]

    def judge(self, trace: Trace) -> Iterator[Said]:
        """The fall from the shortest length to the longer ones, and what gives it back."""
        tried = lengths(trace.pair, trace.spec)
        if len(tried) < 2:
            yield Skipped("context", "inconclusive", f"the models admit {len(tried)} of the lengths that were asked for, two are needed")
            return
        if trace.argmax_share < EXACT_TEXT:
            yield Skipped(
                "context", "inconclusive", "the given replies are not the target's own, so there is nothing to hold longer prompts against"
            )
            return
        full = DraftSettings(trace.spec.depth)
        shortest, *longer = tried
        kept = {length: trace.ratio(accepted_drafts, _named(length, full), _named(shortest, full), tries=len(longer)) for length in longer}
        known = {length: share for length, share in kept.items() if isinstance(share, Estimate)}
        if not known:
            yield Skipped("context", "inconclusive", next(share.reason for share in kept.values() if isinstance(share, Absent)))
            return
        helped = {length: best for length in tried if (best := _best_window(trace, length, len(tried))) is not None}
        if helped:
            longest = max(helped)
            yield _note(trace, longest, *helped[longest])
        yield self._fall(trace, shortest, {length: lost(share) for length, share in known.items()}, helped)

    def _fall(self, trace: Trace, shortest: int, losses: dict[int, Estimate], helped: dict[int, tuple[DraftSettings, Estimate]]) -> Said:
        standing, length = self.grades.standing(losses)
        seen = f"from {shortest} to {length} tokens {drafts_lost(losses[length])}"
        if standing == "sound":
            return Sound("context", f"no length costs {losses[length].high:.0%} of the accepted draft tokens or more: {seen}")
        if standing != "found":
            return self.grades.unsettled("context", standing, seen, losses[length], each=" a length")
        loss = chosen(losses[length], self.grades.mild, len(losses))
        seen = f"from {shortest} to {length} tokens {drafts_lost(loss)}"
        full = _named(length, DraftSettings(trace.spec.depth))
        beyond = f"; beyond the {KNOWN_TRAINING} that heads are mostly trained on" if length > KNOWN_TRAINING else ""
        of_all, unit, likely = self.grades.of(loss), "share of accepted drafts", self.grades.likely(loss)
        if length not in helped:
            fix = trained(trace.pair, "train on longer conversations; serve shorter ones, or turn speculation off beyond this length")
            return Finding("LENGTH-LOSS", of_all, f"{seen}, and no window gives them back{beyond}", loss, unit, fix, full, likely)
        window, gain = helped[length]
        fix = f"serve the drafter with {_described(window)}, or train on longer conversations"
        claim = f"{seen}; {_described(window)} gives back {gain.value:.2f} a round [{gain.low:.2f}, {gain.high:.2f}]{beyond}"
        return Finding("DRIFT-LONGCTX", of_all, claim, loss, unit, fix, full, likely)


def _note(trace: Trace, length: int, window: DraftSettings, gain: Estimate) -> Finding:
    """That at this length a window does better than full attention."""
    name, full = _named(length, window), _named(length, DraftSettings(trace.spec.depth))
    share = trace.ratio(accepted_drafts, name, full)
    of_all = f", {share.value:.0%} of those with full attention" if isinstance(share, Estimate) else ""
    more = f"{gain.value:+.2f} accepted draft tokens a round [{gain.low:+.2f}, {gain.high:+.2f}]"
    claim = f"at {length} tokens {_described(window)}: {more}{of_all}"
    return Finding("WINDOW-HELPS", "healthy", claim, gain, "drafts a round", f"serve the drafter with {_described(window)}", name)


def _best_window(trace: Trace, length: int, tries: int) -> tuple[DraftSettings, Estimate] | None:
    """The window that does best on the prompts that select, where it also does better than full attention on those that judge, by an
    interval for as many lengths at once and by enough to change a setting for.
    """
    full = _named(length, DraftSettings(trace.spec.depth))
    tried = [one for one in windows(length, trace.spec.depth) if _named(length, one) in trace.measured]
    gains = {one: trace.gain(accepted_drafts, _named(length, one), full, "selecting") for one in tried}
    known = {one: gain.value for one, gain in gains.items() if isinstance(gain, Estimate)}
    if not known:
        return None
    best = max(known, key=lambda one: known[one])
    judged = trace.gain(accepted_drafts, _named(length, best), full, "judging", tries)
    share = trace.ratio(accepted_drafts, _named(length, best), full)
    enough = isinstance(share, Estimate) and share.value >= MINIMAL_GAIN
    return (best, judged) if isinstance(judged, Estimate) and judged.low > 0 and enough else None


def windows(length: int, depth: int) -> list[DraftSettings]:
    """The windows that are shorter than a prompt of this length, each with nothing, the sink or the system prompt kept."""
    return [DraftSettings(depth, window=window, kept=kept) for window in WINDOWS if window < length for kept in KEPT]


def lengths(pair: PairCard, spec: RunSpec) -> list[int]:
    """The lengths asked for, as far as the target admits them with a reply behind; the usual ones as far as the drafter does too."""
    longest = min((limit for limit, _ in _limits(pair, spec)), default=None)
    return [length for length in sorted(set(spec.lengths or LENGTHS)) if longest is None or length + spec.max_new_tokens <= longest]


def _limits(pair: PairCard, spec: RunSpec) -> list[tuple[int, str]]:
    """Positions that are not to be passed, and who says so."""
    declared = pair.record.get("max_position_embeddings")
    limits = {
        "the target admits": pair.target_positions,
        "the drafter declares": None if spec.lengths or declared is None else declared.value,
    }
    return [(value, whose) for whose, value in limits.items() if isinstance(value, int)]


def _named(length: int, settings: DraftSettings) -> str:
    window = "" if settings.window is None else f"-window-{settings.window}"
    kept = "" if settings.kept == "nothing" else f"-keep-{settings.kept}"
    return f"context-{length}{window}{kept}"


def _described(settings: DraftSettings) -> str:
    kept = {"nothing": "", "sink": " and the sink kept", "system": " and the system prompt kept"}[settings.kept]
    return f"a window of {settings.window}{kept}"
