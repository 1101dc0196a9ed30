"""Walks, lengths and intervals: pure functions over counts. Prompts are the unit of every interval.

A statistic is a function of sums over anchors, pooled over prompts: the ratio of sums, not the mean of ratios. Its interval comes from
drawing prompts with replacement, so the anchors of one prompt, which are anything but independent, never count as separate evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftcli.domain import Absent, Estimate

Floats = NDArray[np.float64]
Sums = Mapping[str, Floats]
DRAWS = 2000  # bootstrap draws; the 2.5% tail then rests on 50 of them (chosen by us)
DEFINED_DRAWS = 0.95  # share of draws in which a statistic must be defined; dropping more would bend its interval (chosen by us)
EXACT_TEXT = 0.99  # below this share of the target's own choices a given text is no trajectory of the target (design rule)
MINIMAL_PROMPTS = 8  # fewer prompts give no interval that a verdict may rest on (design rule)


def leading_matches(match: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Drafted tokens kept at each anchor: right guesses before the first wrong one. (anchor, depth) -> (anchor,)."""
    kept: NDArray[np.int64] = np.cumprod(match, axis=1, dtype=np.int64).sum(axis=1)
    return kept


def walk(accepted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Anchors that real decoding visits when the first anchor is the first of `accepted`: each round moves on by `accepted + 1`."""
    visited, here = np.zeros(len(accepted), dtype=bool), 0
    while here < len(accepted):
        visited[here] = True
        here += int(accepted[here]) + 1
    return visited


def walk_counts(accepted: NDArray[np.int64], depth: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rounds and kept drafts of the walk for every draft length `1 .. depth` on the same anchors; two arrays (depth,)."""
    rounds, kept = np.zeros(depth, dtype=np.int64), np.zeros(depth, dtype=np.int64)
    for length in range(1, depth + 1):
        short = np.minimum(accepted, length)
        on_walk = walk(short)
        rounds[length - 1], kept[length - 1] = on_walk.sum(), short[on_walk].sum()
    return rounds, kept


def sampled_walk(accept: Floats) -> tuple[float, float]:
    """Expected rounds and kept drafts of decoding along one text by lossless rejection sampling, by an exact forward pass.

    accept: (anchor, depth), the probability that a draft is accepted once those before it are: `min(1, draft prob / target prob)` of the
    text's own token, the text being drawn from the target. Source: Leviathan et al. 2023, section 2.3.
    """
    anchors, depth = accept.shape
    joint = np.concatenate([np.ones((anchors, 1)), np.cumprod(accept, axis=1), np.zeros((anchors, 1))], axis=1)
    stops = joint[:, :-1] - joint[:, 1:]  # probability of exactly k = 0 .. depth kept
    visits = np.zeros(anchors + depth + 1)
    visits[0] = 1.0
    for anchor in range(anchors):
        visits[anchor + 1 : anchor + depth + 2] += visits[anchor] * stops[anchor]
    return float(visits[:anchors].sum()), float((visits[:anchors] * joint[:, 1:-1].sum(axis=1)).sum())


def acceptance_length(rounds: Floats, kept: Floats) -> Floats:
    """Tokens committed per verification: kept drafts a round plus the one bonus token. Source: Leviathan et al. 2023, section 3.1."""
    return 1 + ratio(kept, rounds)


def ratio(part: Floats, whole: Floats) -> Floats:
    """`part / whole`, NaN where there is nothing to divide by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole != 0, part / whole, np.nan)


class Mapped(Mapping[str, Floats]):
    """Sums with every array changed by one function, each when it is first asked for: a statistic asks for a few of many."""

    def __init__(self, sums: Sums, change: Callable[[Floats], Floats]) -> None:
        self._sums, self._change = sums, change
        self._changed: dict[str, Floats] = {}

    def __getitem__(self, name: str) -> Floats:
        if name not in self._changed:
            self._changed[name] = self._change(self._sums[name])
        return self._changed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sums)

    def __len__(self) -> int:
        return len(self._sums)


@dataclass(frozen=True)
class Bootstrap:
    """Draws of prompts with replacement, the same for every statistic of a run, so that differences are paired."""

    weights: Floats

    @classmethod
    def of(cls, n_prompts: int, seed: int) -> Bootstrap:
        """`DRAWS` resamplings of `n_prompts` prompts."""
        random = np.random.default_rng(seed)
        return cls(random.multinomial(n_prompts, np.full(n_prompts, 1 / n_prompts), size=DRAWS).astype(np.float64))

    def estimates(self, sums: Sums, statistic: Callable[[Sums], Floats], tries: int = 1) -> list[Estimate | Absent]:
        """Value and 95% interval of each entry of `statistic`; for `tries` numbers at once the intervals are wider (Bonferroni).

        sums: (prompt, ...) each; the statistic sees them pooled as (draw, ...) and returns (draw,) or (draw, entry).
        """
        return self._pooled(lambda pool: statistic(Mapped(sums, pool)), tries)

    def estimate(self, sums: Sums, statistic: Callable[[Sums], Floats], tries: int = 1) -> Estimate | Absent:
        """Value and 95% interval of a single number."""
        (only,) = self.estimates(sums, statistic, tries)
        return only

    def compared(
        self, first: Sums, second: Sums, statistic: Callable[[Sums], Floats], combine: Callable[[Floats, Floats], Floats], tries: int = 1
    ) -> Estimate | Absent:
        """Value and 95% interval of a single number of the first sums combined with that of the second, draw by draw."""
        (only,) = self._pooled(lambda pool: combine(statistic(Mapped(first, pool)), statistic(Mapped(second, pool))), tries)
        return only

    def _pooled(self, number: Callable[[Callable[[Floats], Floats]], Floats], tries: int) -> list[Estimate | Absent]:
        value = np.atleast_1d(number(lambda counts: counts.sum(axis=0, keepdims=True))[0])
        drawn = number(lambda counts: np.tensordot(self.weights, counts, axes=1))
        drawn = drawn.reshape(len(drawn), -1)
        return [_estimate(float(value[i]), drawn[:, i], self.weights.shape[1], tries) for i in range(len(value))]


def _estimate(value: float, drawn: Floats, n_prompts: int, tries: int) -> Estimate | Absent:
    defined = drawn[np.isfinite(drawn)]
    if not np.isfinite(value):
        return Absent("nothing to divide by: no such observation in this run")
    if len(defined) < DEFINED_DRAWS * len(drawn):
        return Absent(f"too rare: in {1 - len(defined) / len(drawn):.0%} of the resamplings of prompts there is nothing to divide by")
    low, high = np.quantile(defined, [0.025 / tries, 1 - 0.025 / tries])
    return Estimate(value, float(low), float(high), n_prompts)
