"""A ranking in sentences: which drafter for these texts first, then what a reader must know besides."""

from __future__ import annotations

from collections.abc import Sequence

from driftcli.comparison.contestants import NGRAM, NONE
from driftcli.comparison.ranking import Place, Ranking
from driftcli.comparison.telling import forced_words, pairing_words, shared, shown_change, timed_words
from driftcli.domain import Absent, Estimate
from driftcli.printable import few, printable


def answer(ranking: Ranking) -> str:
    """Which drafter to use on these texts, and how sure that is."""
    best, timed = ranking.deciding[0], bool(ranking.by_speed)
    prompts = f"on {best.value.n_prompts} prompts" if best.value.n_prompts else "on these prompts"
    if best.name == NONE:
        next_best = ranking.deciding[1]
        what = "no drafter is faster than plain decoding" if timed else "no drafter has a draft token accepted"
        return f"{what} on these texts: the best, {next_best.name}, comes to {shown(next_best, timed=timed)}{_unsure(best, prompts)}"
    what = "is the fastest" if timed else "accepts the most draft tokens"
    if best.like:
        what = "leads in expected speed" if timed else "leads in accepted draft tokens"
    return f"{best.name} {what} on these texts, {shown(best, timed=timed)}{_unsure(best, prompts)}"


def shown(place: Place, *, timed: bool) -> str:
    """The number that a place goes by, with its draft length."""
    drafts = f" at draft length {place.drafts}" if place.drafts else ""
    number = f"{value(place)} times the speed of plain decoding" if timed else f"acceptance length {value(place)}"
    return f"{number}{drafts}"


def value(place: Place) -> str:
    """The number that a place goes by with its interval, where it has one: none is what it is by definition."""
    one = place.value
    if one.value is None:
        return "unknown"
    return f"{one.value:.2f}" if isinstance(one, Absent) or one.low == one.high else f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def places(place: Place) -> str:
    """`1`, or `1-3` where it may have any of these places."""
    return str(place.first) if place.first == place.last else f"{place.first}-{place.last}"


def share_kept(place: Place) -> str:
    """How much of what it drafts is accepted, of a ranking by acceptance length; empty of none."""
    return f"{(place.value.value - 1) / place.drafts:.0%} of {place.drafts}" if place.drafts and place.value.value is not None else ""


def rows(ranking: Sequence[Place], *, timed: bool) -> list[tuple[str, str, str, str, str]]:
    """For each contestant: places, name, number, draft length or share accepted, family."""
    return [(places(one), one.name, value(one), str(one.drafts or "") if timed else share_kept(one), one.family) for one in ranking]


SHOWN = (1, 2, 4, 8, 16)  # depths of which accuracies are shown, as far as chains go, and the last


def along(ranking: Ranking) -> list[tuple[str, str, str, str, str]]:
    """For each drafter: name, right guesses by depth, the share of first guesses' right ones that is lost at the last depth and of accepted
    draft tokens at most, and to what.
    """
    return [
        (
            one.name,
            ", ".join(percent(one.right[depth - 1]) for depth in depths(ranking)),
            percent(one.lost[-1], interval=True),
            percent(one.accepted, interval=True),
            one.to or "neither",
        )
        for one in ranking.losses
    ]


def depths(ranking: Ranking) -> list[int]:
    """The depths of which accuracies are shown."""
    last = ranking.pairing.depth
    return [depth for depth in SHOWN if depth < last] + [last]


def percent(one: Estimate | Absent, *, interval: bool = False) -> str:
    """A share in percent; `-` where there is none."""
    if isinstance(one, Absent):
        return "-"
    return f"{one.value:.0%} [{one.low:.0%}, {one.high:.0%}]" if interval else f"{one.value:.0%}"


def facts(ranking: Ranking) -> str:
    """On what drafters are ranked."""
    run = ranking.pairing.runs[0]
    decoding = f"greedy draft tokens at temperature {run.spec.temperature:g}" if run.spec.temperature else "greedy"
    return printable(f"target {run.pair.target.name} · {shared(ranking.pairing)} · {pairing_words(ranking.pairing)} · {decoding}")


def remarks(ranking: Ranking) -> list[str]:
    """What was forced, what differs, why there are no speeds, how each is to the first, and how places come about."""
    lines = [forced_words("ranked", ranking.forced)] if ranking.forced else []
    lines += [f"the runs also differ in {one}" for one in ranking.differences if one.effect == "is told"]
    lines += [f"speeds are not ranked: {ranking.untimed}"] if ranking.untimed else []
    against = [f"{name} {one.word} ({shown_change(one)})" for name, one in zip(ranking.names[1:], ranking.against_first, strict=True)]
    lines.append(f"acceptance lengths are at draft length {ranking.pairing.depth} for all, so that a round verifies as many tokens of each")
    lines.append(f"acceptance length at draft length {ranking.pairing.depth} against {ranking.names[0]}'s: {', '.join(against)}")
    lines += _losses_words(ranking)
    if ranking.by_speed:
        lines.append(f"speeds: {'; '.join([timed_words(ranking.pairing), *_lookup_words(ranking)])}")
        lines.append("speeds: draft lengths are chosen on one half of the prompts and judged on the other")
    said = "; lookup: the last 1 to 3 tokens" if _has_floor(ranking) else ""
    lines.append(f"places are shared where no difference is shown, with intervals for all pairs at once{said}")
    return list(map(printable, lines))


def _losses_words(ranking: Ranking) -> list[str]:
    """What the losses are against, and of whom there are none."""
    if ranking.pairing.depth == 1:
        return []
    lines = []
    if any(one.to for one in ranking.losses):
        lines.append(
            "by depth: share of right guesses in a chain or block; lost: of the tokens that the same drafter guesses right as its first, "
            "right behind the target's own, and of the draft tokens accepted so, at most"
        )
    lines += [
        f"{one.name} loses to neither: {one.accepted.reason}" for one in ranking.losses if not one.to and isinstance(one.accepted, Absent)
    ]
    return lines


def _has_floor(ranking: Ranking) -> bool:
    """Whether a lookup that no run is of is ranked beside them."""
    return any(one.family == NGRAM for one in ranking.by_length)


def _lookup_words(ranking: Ranking) -> list[str]:
    if not _has_floor(ranking):
        return []
    if any(one.family == NGRAM for one in ranking.by_speed):
        return ["a lookup by those of the first, without a draft step"]
    return ["a lookup is left out, since whole rounds of a drafter do not say what its own would take"]


def _unsure(best: Place, prompts: str) -> str:
    """From whom the first is not told apart."""
    if not best.like:
        return f", ahead of all others {prompts}"
    others = "plain decoding" if best.like == (NONE,) else few(best.like)
    more = f" (about {best.more_prompts} more would tell)" if best.more_prompts else ""
    return f", but it is not told from {others} {prompts}{more}"
