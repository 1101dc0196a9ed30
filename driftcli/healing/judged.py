"""Whether a healed head is better than the one it came from, by the same numbers on prompts that neither was trained on."""

from __future__ import annotations

from dataclasses import dataclass

from driftcli.comparison.changes import Change
from driftcli.comparison.pairwise import Comparison, compare
from driftcli.comparison.telling import shown_change
from driftcli.comparison.words import BAND
from driftcli.domain import AxisVerdict
from driftcli.traces.reader import Run

FIRST = "accuracy_1"  # the number that tells whether depth was bought by what a head knows


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
    return Judged(found, cured=cured, why=f"{said}; {found.length.number.words}: {_told(found.length)}")


def judged(before: Run, after: Run) -> Judged:
    """The comparison on the prompts of `after`, all of which `before` has too, and what it comes to: a cure is an acceptance length that is
    shown to be longer, and a first guess that is not shown to be worse.
    """
    found = compare((before, after), ("original", "healed"), BAND)
    first = next(change for change in found.others if change.number.name == FIRST)
    if found.length.word != "improved":
        return Judged(found, cured=False, why=f"{found.length.number.words}: {_told(found.length)}")
    if first.word == "regressed":
        return Judged(found, cured=False, why=f"deeper guesses were bought by the first: {first.number.words}: {_told(first)}")
    return Judged(found, cured=True, why=f"{found.length.number.words}: {_told(found.length)}")


def _told(change: Change) -> str:
    return f"{change.word} ({shown_change(change)})"
