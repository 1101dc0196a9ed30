"""A comparison in sentences, for every way in which it is shown; all text from outside leaves this module printable."""

from __future__ import annotations

from collections.abc import Sequence

from driftcli.comparison.changes import Change
from driftcli.comparison.comparability import DTYPE, Difference, same_pair
from driftcli.comparison.pairing import Pairing
from driftcli.comparison.pairwise import Comparison
from driftcli.comparison.speeds import SPEED
from driftcli.comparison.twins import held_together, told
from driftcli.domain import Absent, Estimate
from driftcli.printable import counted, printable

NONE_DIFFERS = "no prompt differs"


def banner(comparison: Comparison) -> str:
    """The word of what decides, in capitals."""
    return comparison.length.word.upper()


def headline(comparison: Comparison) -> str:
    """What the second drafter is to the first, in a sentence, by the number that decides."""
    one, (first, second) = comparison.length, comparison.names
    what = f"{one.number.words} {_value(one.after)} against {_value(one.before)}"
    if isinstance(one.difference, Absent):
        return f"{second} against {first}: {what}; {one.difference.reason}{_more(one)}"
    seen = f"{what}, {shown_change(one)} on {counted(one.difference.n_prompts, 'prompt')}"
    if one.word in ("improved", "regressed"):
        return f"{second} accepts {'more' if one.word == 'improved' else 'fewer'} draft tokens than {first}: {seen}"
    if one.word == "equal":
        return f"{second} accepts as many draft tokens as {first}: {seen}, inside the band of {_percent(comparison.band)}"
    reach = max(-one.difference.low, one.difference.high) / one.band * comparison.band
    return f"{second} against {first}: {seen}; a change of up to {_percent(reach)} is not excluded{_more(one)}"


def reason(one: Change, names: Sequence[str]) -> str:
    """One change in a sentence with its numbers."""
    if isinstance(one.difference, Absent):
        return f"{one.number.words}: {one.word}, {one.difference.reason}{_more(one)}"
    both = f"{_value(one.after, one)} ({names[1]}) against {_value(one.before, one)} ({names[0]})"
    return f"{one.number.words}: {one.word}, {both}, {shown_change(one)} on {counted(one.difference.n_prompts, 'prompt')}{_more(one)}"


def shown_change(one: Change) -> str:
    """A change with its interval: the difference, in percentage points of a share."""
    if isinstance(one.difference, Absent):
        return one.difference.reason
    value, low, high = one.difference.value, one.difference.low, one.difference.high
    if one.number.scale == "points":
        interval = f"[{100 * low:+z.1f}, {100 * high:+z.1f}]"
        return f"{NONE_DIFFERS} {interval} pp" if one.none_differs else f"{100 * value:+z.1f} pp {interval}"
    return f"{NONE_DIFFERS if one.none_differs else f'{value:+z.2f}'} [{low:+z.2f}, {high:+z.2f}]"


def shown_times(one: Change) -> str:
    """The second number over the first, with its interval; empty of a share."""
    if not isinstance(one.times, Estimate):
        return ""
    return f"{one.times.value:.2f}x [{one.times.low:.2f}, {one.times.high:.2f}]"


def rows(changes: Sequence[Change]) -> list[tuple[str, str, str, str, str]]:
    """For each change: what, before, after, the change, its word."""
    return [(one.number.words, _value(one.before, one), _value(one.after, one), shown_change(one), one.word) for one in changes]


def facts(comparison: Comparison) -> str:
    """On what the runs are compared."""
    pairing = comparison.pairing
    run = pairing.runs[0]
    decoding = f"greedy draft tokens at temperature {run.spec.temperature:g}" if run.spec.temperature else "greedy"
    first, second = comparison.names
    runs = f"RUN0 {first} · RUN1 {second}"
    return printable(
        f"{runs} · target {run.pair.target.name} · {shared(pairing)} · {pairing_words(pairing)} · depth {pairing.depth} · {decoding}"
    )


def shared(pairing: Pairing) -> str:
    """How many prompts are compared, and of how many where the runs do not share all."""
    own = [len(run.prompts) for run in pairing.runs]
    if set(own) == {pairing.shared}:
        return counted(pairing.shared, "prompt")
    return f"{pairing.shared} shared of {' / '.join(map(str, own))} prompts"


def pairing_words(pairing: Pairing) -> str:
    """By what the runs are paired."""
    if pairing.rendered < pairing.shared:
        return f"paired by prompt id ({pairing.rendered} of {pairing.shared} prompts are rendered to the same text)"
    if pairing.alike == pairing.replies:
        return f"paired by prompt, turn and anchor (all {pairing.replies} replies are the same text)"
    return f"paired by prompt and turn ({pairing.alike} of {pairing.replies} replies are the same text)"


def remarks(comparison: Comparison) -> list[str]:
    """What a reader must know besides: what was forced, what differs, what is withheld, how several numbers are treated."""
    lines = [forced_words("compared", comparison.forced)] if comparison.forced else []
    if held_together(comparison.pairing.runs) and (shift := comparison.pairing.runs[1].shift) is not None:
        lines += [f"against the twin: {line}" for line in told(shift)]
    lines += [f"the runs also differ in {one}" for one in comparison.differences if one.effect == "is told"]
    lines += _dtypes(comparison)
    for why in dict.fromkeys(one.reason for one in comparison.missing):
        lines.append(f"not compared: {'; '.join(one.words for one in comparison.missing if one.reason == why)} ({why})")
    if any(one.number.name == SPEED for one in comparison.others):
        lines.append(f"expected speed is over plain decoding, {timed_words(comparison.pairing)}, on the half of the prompts that judges")
    lines += _alike(comparison)
    lines.append(_multiplicity(comparison))
    return list(map(printable, lines))


def _alike(comparison: Comparison) -> list[str]:
    """What the interval means of numbers that are the same in both runs on every prompt."""
    words = [one.number.words for one in comparison.changes if one.none_differs]
    why = "both runs have the same on each, and the interval is what so many prompts cannot exclude on others"
    return [f"{NONE_DIFFERS} in {'; '.join(words)}: {why}"] if words else []


def _dtypes(comparison: Comparison) -> list[str]:
    """Of one pair in two dtypes, how many draft tokens that changes."""
    seen = next((one.seen for one in comparison.differences if one.what == DTYPE), ())
    if not seen or not same_pair(comparison.pairing.runs):
        return []
    other, among = comparison.pairing.other_guesses()
    if not among:
        return [f"one pair in {' and in '.join(seen)}: no reply is the same text in both, so draft tokens cannot be held together"]
    return [f"one pair in {' and in '.join(seen)}: {other / among:.1%} of the {among:,} draft tokens on the same replies differ"]


def forced_words(done: str, forced: Sequence[Difference]) -> str:
    """That runs were compared, or ranked, though they differ in what would have refused it."""
    return f"{done} all the same (--force), though the runs differ in {'; '.join(map(str, forced))}"


def timed_words(pairing: Pairing) -> str:
    """By which step times speeds are told, of runs that all have some."""
    costs = [run.costs for run in pairing.runs if run.costs is not None]
    sources, contexts = (" / ".join(dict.fromkeys(own)) for own in ([one.source for one in costs], [str(one.context) for one in costs]))
    return f"each run by the times of its own steps ({sources}, after {contexts} tokens, batch {costs[0].deciding.batch_size})"


def _multiplicity(comparison: Comparison) -> str:
    points, band = f"{100 * comparison.band:g} points", _percent(comparison.band)
    below, effects = len(comparison.others), len(comparison.effects)
    families = [*([f"the {below} below it"] if below else []), *([f"the {counted(effects, 'effect')}"] if effects else [])]
    wider = f"; intervals of {' and of '.join(families)} hold for all of them at once" if families else ""
    return f"{comparison.length.number.words} decides{wider}; band: {band} of a number, {points} of a share"


def _more(one: Change) -> str:
    if one.word not in ("no difference seen", "cannot tell"):
        return ""
    if one.more_prompts is None:
        return "; more prompts would hardly tell"
    return f"; {'at least' if isinstance(one.difference, Absent) else 'about'} {counted(one.more_prompts, 'more prompt')} would tell"


def _value(value: Estimate | Absent, of: Change | None = None) -> str:
    if value.value is None:
        return "-"
    return f"{value.value:z.0%}" if of is not None and of.number.scale == "points" else f"{value.value:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%"
