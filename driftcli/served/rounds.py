"""Single rounds of a server at anchors of the run: which way to put the drafter together do they fit?

A reply of two tokens behind a prompt and the beginning of its reply is one round at a known anchor, on the run's own text. There every
wiring that the run measured foresees how many draft tokens are kept, whatever the rounds before were; over whole replies it does not, since
another wiring visits other anchors. Anchors are chosen by what is foreseen alone: half where the wirings differ, half evenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftcli.domain import Absent, Estimate
from driftcli.served.asking import Session
from driftcli.served.foreseen import SHALLOW, Otherwise, Text
from driftcli.served.server import Counts, Reply
from driftcli.statistics.intervals import Bootstrap, within
from driftcli.statistics.walks import Sums, ratio

PER_TEXT, ALTOGETHER = 4, 160  # single rounds that are asked for (chosen by us)
FITS = 0.9  # share of single rounds that a wiring must foresee to explain a server (chosen by us: rounding turns a few)


@dataclass(frozen=True, slots=True)
class Round:
    """One round at an anchor, the first of a reply being 0; kept: draft tokens, at most `SHALLOW` or the server's own chains."""

    text: Text
    anchor: int
    kept: int


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a wiring foresees single rounds: the share that it foresees, and by how much more that is than as filed."""

    other: Otherwise
    share: Estimate | Absent
    more: Estimate | Absent


@dataclass(frozen=True, slots=True)
class Explanation:
    """What single rounds say: the share that is as filed, that of first guesses, and how every other wiring fits, the best first.

    alike: names of those that foresee the very same as the best one.
    """

    rounds: int
    filed: Estimate | Absent
    first: Estimate | Absent
    fits: tuple[Fit, ...]
    alike: tuple[str, ...] = ()

    @property
    def best(self) -> Fit | None:
        """The wiring that explains the server, None where none does."""
        best = next(iter(self.fits), None)
        if best is None or not isinstance(best.share, Estimate) or not isinstance(best.more, Estimate):
            return None
        return best if best.share.value >= FITS and best.more.low > 0 else None


def ask_rounds(session: Session, texts: Sequence[Text], others: Sequence[Otherwise]) -> list[Round]:
    """Single rounds of the server; those whose replies are not the run's are left out."""
    found = list[Round]()
    asked = _anchors(texts, others, min(SHALLOW, session.drafts))
    for number, (text, anchor) in enumerate(asked, 1):
        if (kept := _kept(session, text, anchor)) is not None:
            found.append(Round(text, anchor, kept))
        session.tell_round(number, len(asked))
    return found


def explained(rounds: Sequence[Round], others: Sequence[Otherwise], most: int, seed: int) -> Explanation:
    """How single rounds fit what is filed and every other wiring; most: draft tokens at most that a round's count tells of."""
    filed, first = ([min(int(one.text.kept[one.anchor]), deep) == min(one.kept, deep) for one in rounds] for deep in (most, 1))
    units = np.unique([one.text.unit for one in rounds], return_inverse=True)[1]
    usable = [other for other in others if all(one.text.key in other.kept for one in rounds)]
    foreseen = {other.name: [min(int(other.kept[one.text.key][one.anchor]), most) for one in rounds] for other in usable}
    fits = [
        _fit(other, [kept == one.kept for kept, one in zip(foreseen[other.name], rounds, strict=True)], filed, units, seed, len(usable))
        for other in usable
    ]
    fits.sort(key=lambda fit: -(fit.share.value or 0))
    alike = tuple(fit.other.name for fit in fits[1:] if foreseen[fit.other.name] == foreseen[fits[0].other.name])
    return Explanation(len(rounds), _share(filed, units, seed), _share(first, units, seed), tuple(fits), alike)


def _fit(other: Otherwise, own: list[bool], filed: list[bool], units: np.ndarray, seed: int, tries: int) -> Fit:
    more = [float(a) - float(b) for a, b in zip(own, filed, strict=True)]
    return Fit(other, _share(own, units, seed), _mean(more, units, seed, -1.0, tries))


def _share(hits: list[bool], units: np.ndarray, seed: int) -> Estimate | Absent:
    return _mean([float(hit) for hit in hits], units, seed, 0.0, 1)


def _mean(values: list[float], units: np.ndarray, seed: int, lowest: float, tries: int) -> Estimate | Absent:
    """A mean over rounds with its interval over units, for `tries` at once."""
    if not values:
        return Absent("no single round of the run's text")
    count = int(units.max()) + 1
    of, value = (np.bincount(units, weights, minlength=count).astype(np.float64) for weights in (None, values))
    sums: Sums = {"of": of, "value": value}
    return Bootstrap.of(count, seed).estimate(sums, within(lowest, 1.0)(lambda pooled: ratio(pooled["value"], pooled["of"])), tries)


def _anchors(texts: Sequence[Text], others: Sequence[Otherwise], most: int) -> list[tuple[Text, int]]:
    """The anchors to be asked for: of each text half where wirings differ most, the rarer a difference the more it counts, half evenly."""
    each = max(1, min(PER_TEXT, ALTOGETHER // max(1, len(texts))))
    differs = {other.name: {text.key: _differs(text, other, most) for text in texts if text.key in other.kept} for other in others}
    weight = {name: 1 / total for name, by_text in differs.items() if (total := sum(int(one.sum()) for one in by_text.values()))}
    found = list[tuple[Text, int]]()
    for text in texts[: ALTOGETHER // each]:
        score = np.zeros(len(text.kept))
        for name, by_text in differs.items():
            if name in weight and text.key in by_text:
                score += weight[name] * by_text[text.key]
        telling = np.argsort(-score, kind="stable")[: each // 2].tolist()
        even = np.linspace(0, len(text.kept) - 1, each - len(telling) + 2).round().astype(int)[1:-1].tolist()
        found += [(text, anchor) for anchor in sorted({*telling, *even})]
    return found


def _differs(text: Text, other: Otherwise, most: int) -> np.ndarray:
    own, its = np.minimum(text.kept, most), np.minimum(other.kept[text.key], most)
    same_length = min(len(own), len(its))
    out = np.zeros(len(own), dtype=bool)
    out[:same_length] = own[:same_length] != its[:same_length]
    return out


def _kept(session: Session, text: Text, anchor: int) -> int | None:
    """Draft tokens that a round at an anchor keeps, at most `SHALLOW`; None where the reply is not the run's."""
    if session.server.facts.counts_behind:
        counts = _one(session, text, anchor, 2)
        known = counts is not None and counts.rounds == 1 and counts.kept_at is not None
        return sum(counts.kept_at[:SHALLOW]) if known and counts is not None and counts.kept_at is not None else None
    deepest = 0
    for kept in range(1, min(SHALLOW, session.drafts) + 1):  # one round, if it keeps so many: the next tokens then need no other
        counts = _one(session, text, anchor, kept + 2)
        if counts is None:
            return None
        if counts.rounds > 1:
            break
        deepest = kept
    return deepest


def _one(session: Session, text: Text, anchor: int, tokens: int) -> Counts | None:
    """What is counted of a reply of so many tokens behind the text up to an anchor; None where it is not the run's."""
    start = text.prompt_length + anchor
    replies, counts = session.replies([(text.ids[:start], tokens)])
    own: Reply = replies[0]
    return (counts or own.counts) if own.tokens == text.ids[start : start + tokens] else None
