"""Rounds that an engine was timed in as a whole: what they come to, and how sure that is, from the turns in which they were timed.

Turns are samples as those of single steps are (`driftcli.statistics.turns`): every other one chooses and the rest judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from driftcli.domain import Half
from driftcli.statistics.turns import FEWEST, STEADY, drawn_medians, never_falling, surely_fell
from driftcli.statistics.walks import Floats


@dataclass(frozen=True)
class RoundSeconds:
    """Seconds of a round with `0, 1, ...` draft tokens, the first a step of plain decoding, never falling with their number.

    by_drafts: (row, drafts + 1).
    """

    by_drafts: Floats

    @property
    def plain(self) -> Floats:
        """Seconds of a step of plain decoding; (row,)."""
        steps: Floats = self.by_drafts[:, 0]
        return steps

    @property
    def read(self) -> Floats:
        """What a kept draft token adds to the round after it: nothing that was timed apart; (row,)."""
        return np.zeros(len(self.by_drafts))

    def rounds(self, most: int) -> Floats:
        """Seconds of a round of 0 .. `most` draft tokens; (row, most + 1)."""
        some: Floats = self.by_drafts[:, : most + 1]
        return some


@dataclass(frozen=True, eq=False)
class RoundTurns:
    """Seconds of a round by turn and number of draft tokens, (turn, length); lengths: 0 first, which is plain decoding."""

    lengths: tuple[int, ...]
    seconds: Floats

    def __len__(self) -> int:
        return len(self.seconds)

    @cached_property
    def halves(self) -> Mapping[Half, RoundTurns]:
        """Even turns, which choose, and odd ones, which judge; all of them where there are too few for two halves."""
        if len(self) < 2 * FEWEST:
            return {"selecting": self, "judging": self}
        return {"selecting": RoundTurns(self.lengths, self.seconds[0::2]), "judging": RoundTurns(self.lengths, self.seconds[1::2])}

    @cached_property
    def point(self) -> RoundSeconds:
        """Medians over the turns, one row."""
        return self._of(np.median(self.seconds, axis=0, keepdims=True))

    @cached_property
    def drawn(self) -> RoundSeconds:
        """The same of turns drawn with replacement, one row a draw."""
        return self._of(np.maximum(drawn_medians(self.seconds), STEADY * np.median(self.seconds, axis=0)))

    @cached_property
    def spread(self) -> Floats:
        """Half of the middle half of the turns, as a share of the median; (length,)."""
        low, middle, high = np.percentile(self.seconds, (25, 50, 75), axis=0)
        apart: Floats = (high - low) / 2 / middle
        return apart

    def _of(self, seconds: Floats) -> RoundSeconds:
        every = np.arange(self.lengths[-1] + 1)
        return RoundSeconds(np.stack([np.interp(every, self.lengths, row) for row in never_falling(seconds)]))

    @cached_property
    def doubt(self) -> str:
        """Why these times cannot be true: a round of more draft tokens that is surely faster; empty where nothing is wrong."""
        fell = surely_fell(self.seconds)
        return "" if fell is None else rounds_fall(self.lengths[fell[0]], self.lengths[fell[1]], *fell[2:])


def rounds_fall(few: int, many: int, before: float, after: float) -> str:
    """That a round of more draft tokens was faster, in words."""
    less = "a step of plain decoding" if few == 0 else f"one of {few}"
    return f"a round of {many} draft tokens took {1000 * after:.3g} ms, {less} {1000 * before:.3g} ms, beyond noise"
