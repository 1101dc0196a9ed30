"""What drafting comes to by how far a reply has gone, and late in replies against the first tokens of the very same ones.

An anchor's place is the number of reply tokens before the last verified one. Places fall into bins by doubling. Long replies are not short
ones with more behind: only those that reach both bins are compared, each with as much weight early as late, so which they are does not
matter. Sums are (reply, bin); a unit's are those of its replies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from driftcli.domain import Absent, Estimate
from driftcli.statistics.intervals import Bootstrap, Bounded, Statistic, within
from driftcli.statistics.walks import Floats, Sums, acceptance_length, ratio

FIRST = 64  # places of the first bin; each later one begins where the last ended and ends at twice that (chosen by us)
NOT_REACHED = "no reply has a chain that far on"


def accepted(sums: Sums) -> Floats:
    """Drafts kept a round of the walk that begins in a bin; (draw,)."""
    return ratio(sums["kept"], sums["rounds"])


def own_rms(sums: Sums) -> Floats:
    """Mean RMS of the chain's own state at depth 2 and deeper; (draw,)."""
    return ratio(sums["own_rms"], sums["deep"])


def rms_ratio(sums: Sums) -> Floats:
    """The same over that of the controls; (draw,)."""
    return ratio(sums["own_rms"], sums["control_rms"])


@within(0, 1, exact=1)  # of alike prompts the layout settles it
def prompt_side(sums: Sums) -> Floats:
    """Share of the chain's attention on what stood there before the reply, sink, template and prompt, at depth 2 and deeper; (draw,)."""
    return ratio(sums["prompt_side"], sums["deep"])


PAIRED: Mapping[str, tuple[Statistic, Callable[[Floats, Floats], Floats]]] = {  # and how it is held against that of the first bin
    "accepted_drafts": (accepted, ratio),
    "rms": (own_rms, ratio),
    "rms_ratio": (rms_ratio, ratio),
    "prompt_side": (prompt_side, np.subtract),
}


def doubling(longest: int) -> list[tuple[int, int]]:
    """First place of each bin and the one behind its last, up to the bin that holds place `longest - 1`."""
    found, start = list[tuple[int, int]](), 0
    while start < longest:
        found.append((start, max(FIRST, 2 * start)))
        start = found[-1][1]
    return found


def bin_of(place: np.ndarray) -> np.ndarray:
    """The number of each place's bin; (anchor,)."""
    if not len(place):
        return place
    ends = [end for _, end in doubling(int(place.max()) + 1)]
    found: np.ndarray = np.searchsorted(ends, place, side="right")
    return found


@dataclass(frozen=True)
class Replies:
    """Sums over the anchors of each reply, by bin.

    sums: `anchors`, `rounds` and `kept` of the walk, and over depths 2 and deeper `deep` (how many queries), `own_rms`, `control_rms`,
    `prompt_side`; (reply, bin) each, NaN where a drafter has no such thing. unit: (reply,). ended: (reply,) whether an end token ended it.
    depth: proposals a chain. seed: of the draws.
    """

    sums: Mapping[str, Floats]
    unit: np.ndarray
    ended: np.ndarray
    depth: int
    seed: int = 0

    @cached_property
    def bins(self) -> list[tuple[int, int]]:
        """First place of each bin that a reply reaches, and the one behind its last."""
        return doubling(FIRST * 2 ** (self._anchors.shape[1] - 1)) if self._anchors.size else []

    @property
    def _anchors(self) -> Floats:
        return self.sums["anchors"]

    def reached(self, number: int) -> int:
        """Replies with a chain in a bin."""
        return int((self._anchors[:, number] > 0).sum())

    def ended_before(self, number: int) -> int:
        """Replies that an end token ended before a chain of a bin, whatever came of the others that do not reach it."""
        return int((self.ended & (self._anchors[:, number] == 0)).sum())

    def acceptance_length(self, number: int) -> Estimate | Absent:
        """Tokens that a round committed of those that begin in a bin, bonus token included."""
        length = Bounded(lambda sums: acceptance_length(sums["rounds"], sums["kept"]), 1.0, self.depth + 1.0, harmonic=True)
        return self.estimate(number, length)

    def estimate(self, number: int, statistic: Statistic) -> Estimate | Absent:
        """A number of a bin, over all replies that reach it."""
        sums = self._by_unit({name: values[:, number] for name, values in self.sums.items()})
        return Bootstrap.of(len(sums["anchors"]), self.seed).estimate(sums, statistic) if len(sums["anchors"]) else Absent(NOT_REACHED)

    def against_first(
        self, number: int, statistic: Statistic, combine: Callable[[Floats, Floats], Floats] = ratio, tries: int = 1
    ) -> Estimate | Absent:
        """A number of a bin over that of the first bin of the same replies, or otherwise combined; the interval holds for `tries` at once.

        Of a reply's first bin so much counts as it has anchors in the other.
        """
        anchors = self._anchors
        both = np.minimum(anchors[:, 0], anchors[:, number]) > 0
        weight = both * ratio(anchors[:, number], anchors[:, 0])
        late = self._by_unit({name: np.where(both, values[:, number], 0) for name, values in self.sums.items()})
        early = self._by_unit({name: np.where(both, values[:, 0] * weight, 0) for name, values in self.sums.items()})
        if not len(late["anchors"]):
            return Absent(NOT_REACHED)
        return Bootstrap.of(len(late["anchors"]), self.seed).compared(late, early, statistic, combine, tries)

    def _by_unit(self, values: Mapping[str, Floats]) -> dict[str, Floats]:
        """Sums of the units with an anchor; (reply,) -> (unit,)."""
        summed: dict[str, Floats] = {name: np.bincount(self.unit, one).astype(np.float64) for name, one in values.items()}
        some = summed["anchors"] > 0
        return {name: one[some] for name, one in summed.items()}


def no_replies(depth: int) -> Replies:
    """Of a run without a chain."""
    return Replies({"anchors": np.zeros((0, 0))}, np.zeros(0, dtype=int), np.zeros(0, dtype=bool), depth)
