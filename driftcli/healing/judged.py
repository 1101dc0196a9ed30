"""Whether a healed head is better than the one it came from, by the same numbers on prompts that neither was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driftcli.comparison.changes import Change
from driftcli.comparison.numbers import domain_effect
from driftcli.comparison.pairwise import Comparison, compare
from driftcli.comparison.telling import shown_change
from driftcli.comparison.words import BAND
from driftcli.domain import AxisVerdict
from driftcli.mitigations.treatment import OTHER_TEXTS, Treatment
from driftcli.traces.reader import Run

FIRST = "accuracy_1"  # the number that tells whether depth was bought by what a head knows
TREATED: dict[Treatment, tuple[str, ...]] = {  # what begins the names of the effects that a treatment is for
    **{treatment: tuple(f"{probe}:" for probe in probes) for treatment, probes in OTHER_TEXTS.items()},
    "domain": (domain_effect("").name,),
}


@dataclass(frozen=True)
class Judged:
    """A healed head held against the original; why: in words, what decides."""

    comparison: Comparison
    cured: bool
    why: str


def restated(before: Run, after: Run, wiring: AxisVerdict) -> Judged:
    """The comparison of a head whose files only say otherwise what was measured before; a cure leaves no wrong wiring and loses nothing."""
    found = compare((before, after), ("original", "healed"), BAND)
    cured = wiring.state != "miswired" and found.length.word != "regressed"
    said = "the files say what servers read" if cured else f"the wiring is still {wiring.state}: {wiring.reason}"
    return Judged(found, cured=cured, why=f"{said}; {_told(found.length)}")


def judged(before: Run, after: Run, treatments: Sequence[Treatment]) -> Judged:
    """The comparison on the prompts of `after`, all of which `before` has too, and what it comes to: a cure is an acceptance length that is
    shown to be longer, or less lost to what was treated and nowhere more, with no acceptance length and no first guess that is shown to be
    worse.
    """
    found = compare((before, after), ("original", "healed"), BAND)
    first = next(change for change in found.others if change.number.name == FIRST)
    treated = tuple(start for treatment in treatments for start in TREATED.get(treatment, ()))
    aims = [one for one in found.effects if one.number.name.startswith(treated)] if treated else []
    better = [one for one in aims if one.word == "improved" and all(other.word != "regressed" for other in aims)]
    if found.length.word == "regressed" or (found.length.word != "improved" and not better):
        return Judged(found, cured=False, why=_told(found.length))
    if first.word == "regressed":
        return Judged(found, cured=False, why=f"deeper guesses were bought by the first: {_told(first)}")
    return Judged(found, cured=True, why="; ".join(map(_told, [found.length, *better])))


def _told(change: Change) -> str:
    return f"{change.number.words}: {change.word} ({shown_change(change)})"
