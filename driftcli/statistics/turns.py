"""Timed steps are samples: what they come to, and how sure that is, from the turns in which they were timed.

A turn times every kind of step once, so whatever else the machine did in it hits all of them. Turns are drawn with replacement as prompts
are; every other one chooses and the rest judge, so that a step that happened to be fast cannot recommend itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from driftcli.domain import Half
from driftcli.statistics.intervals import DRAWS, student, widening
from driftcli.statistics.walks import Floats

FEWEST = 3  # turns of a half that has medians of its own; with fewer all turns choose and judge (chosen by us)
FALL = 0.1  # share by which a step over more tokens must be faster before it cannot be so; chosen by us: kernels change with the length
STEADY = 0.02  # of a step's seconds, below which a drawn one is never taken to fall (chosen by us)


@dataclass(frozen=True)
class Seconds:
    """Seconds of steps, a row each: the drafter's first step of a round, what each more token adds to it, and each further step, (row,);
    one target step over `1, 2, ...` tokens, (row, tokens), never falling with their number.
    """

    first: Floats
    read: Floats
    step: Floats
    verify: Floats

    @property
    def plain(self) -> Floats:
        """Seconds of a step of plain decoding; (row,)."""
        steps: Floats = self.verify[:, 0]
        return steps

    def rounds(self, most: int) -> Floats:
        """Seconds of a round of 0 .. `most` drafts behind one that kept none; (row, most + 1)."""
        drafting = self.first[:, None] + np.arange(most)[None, :] * self.step[:, None]
        spent: Floats = self.verify[:, : most + 1] + np.concatenate([np.zeros((len(self.first), 1)), drafting], axis=1)
        return spent


@dataclass(frozen=True, eq=False)
class Turns:
    """Seconds by turn and kind of step, (turn, 3 + length): the drafter's first step, what each more token adds, a further step, and target
    steps over each of `lengths` tokens.
    """

    lengths: tuple[int, ...]
    seconds: Floats

    def __len__(self) -> int:
        return len(self.seconds)

    @cached_property
    def halves(self) -> Mapping[Half, Turns]:
        """Even turns, which choose, and odd ones, which judge; all of them where there are too few for two halves."""
        if len(self) < 2 * FEWEST:
            return {"selecting": self, "judging": self}
        return {"selecting": Turns(self.lengths, self.seconds[0::2]), "judging": Turns(self.lengths, self.seconds[1::2])}

    @cached_property
    def point(self) -> Seconds:
        """Medians over the turns, one row."""
        return self._of(np.median(self.seconds, axis=0, keepdims=True))

    @cached_property
    def drawn(self) -> Seconds:
        """The same of turns drawn with replacement, one row a draw, as far apart as so few turns are from others."""
        here, medians = np.median(self.seconds, axis=0, keepdims=True), drawn_medians(self.seconds)
        return self._of(np.maximum(medians, np.where(np.arange(here.shape[1]) == 1, -np.inf, STEADY * here)))

    def _of(self, seconds: Floats) -> Seconds:
        timed = never_falling(seconds[:, 3:])
        tokens = np.arange(1, self.lengths[-1] + 1)
        verify = np.stack([np.interp(tokens, self.lengths, row) for row in timed])
        return Seconds(seconds[:, 0], np.maximum(0.0, seconds[:, 1]), seconds[:, 2], verify)

    @cached_property
    def doubt(self) -> str:
        """Why these times cannot be true: a step over more tokens that is surely faster, by a tenth; empty where nothing is wrong."""
        fell = surely_fell(self.seconds[:, 3:])
        return "" if fell is None else falls(self.lengths[fell[0]], self.lengths[fell[1]], *fell[2:])


def drawn_medians(seconds: Floats) -> Floats:
    """Medians of turns drawn with replacement, as far apart as so few turns are from others; (turn, kind) -> (draw, kind)."""
    count, random = len(seconds), np.random.default_rng(len(seconds))
    medians = np.median(seconds[random.integers(0, count, (DRAWS, count))], axis=1)
    here = np.median(seconds, axis=0, keepdims=True)
    apart: Floats = here + (widening(count) if count > 1 else 1.0) * (medians - here)
    return apart


def surely_fell(seconds: Floats) -> tuple[int, int, float, float] | None:
    """The first two kinds of steps of which the later, which does more, is surely faster by a tenth, and the medians of both.

    seconds: (turn, kind), kinds ordered by how much they do.
    """
    here, kinds = np.median(seconds, axis=0), seconds.shape[1]
    for short in range(kinds):
        for long in range(short + 1, kinds):
            if here[long] > (1 - FALL) * here[short]:
                continue
            apart = np.log(seconds[:, long] / seconds[:, short])
            reach = student(len(apart), kinds * (kinds - 1) // 2) * apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else np.inf
            if apart.mean() + reach < 0:
                return short, long, float(here[short]), float(here[long])
    return None


def falls(short: int, long: int, before: float, after: float) -> str:
    """That a step over more tokens was faster, in words."""
    few = f"{short} token{'s' * (short > 1)}"
    return f"a target step over {long} tokens took {1000 * after:.3g} ms, one over {few} {1000 * before:.3g} ms, beyond noise"


def never_falling(rows: Floats) -> Floats:
    """The closest rows that never fall, each by least squares: an isotonic regression, (row, place) -> (row, place).

    By the formula of the largest of the smallest means of what lies around a place. Source: Barlow et al. 1972, theorem 1.4.
    """
    places = rows.shape[1]
    sums = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(rows, axis=1)], axis=1)
    begins, ends = np.arange(places)[:, None], np.arange(1, places + 1)[None, :]
    means = np.where(ends > begins, (sums[:, None, 1:] - sums[:, :places, None]) / np.maximum(ends - begins, 1), np.inf)
    smallest = np.minimum.accumulate(means[:, :, ::-1], axis=2)[:, :, ::-1]  # over ends from a place on
    fitted: Floats = np.stack([smallest[:, : place + 1, place].max(axis=1) for place in range(places)], axis=1)
    return fitted
