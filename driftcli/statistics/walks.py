"""Walks and lengths: pure functions over counts of anchors."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Sums = Mapping[str, Floats]
EXACT_TEXT = 0.99  # below this share of the target's own choices a given text is no trajectory of the target (design rule)
MINIMAL_PROMPTS = 8  # fewer prompts give no interval that a verdict may rest on (design rule)


def by_unit(unit: NDArray[np.int64], values: NDArray[Any], count: int) -> Floats:
    """Sums over the rows of each of `count` units: row r belongs to unit[r]. (row, ...) -> (unit, ...)."""
    columns = values.reshape(len(values), prod(values.shape[1:])).T
    sums = np.array([np.bincount(unit, column, minlength=count) for column in columns], dtype=np.float64)
    return sums.T.reshape(count, *values.shape[1:])


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
