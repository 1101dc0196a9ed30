"""Which guesses are right, summed by prompt as a run sums them: for a population of prompts at once."""

from __future__ import annotations

import numpy as np

from driftcli.statistics.walks import Floats


def accepted_of(right: np.ndarray) -> np.ndarray:
    """Drafts kept at each anchor; (prompt, anchor, depth) -> (prompt, anchor)."""
    accepted = np.zeros(right.shape[:2], dtype=np.int16)
    so_far = np.ones(right.shape[:2], dtype=bool)
    for depth in range(right.shape[2]):
        so_far = so_far & right[:, :, depth]
        accepted += so_far
    return accepted


def visited(kept: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Anchors that decoding visits, as `driftcli.statistics.walks.walk` for every prompt at once; kept: (prompt, anchor, ...), as is what returns."""
    on_walk = np.zeros(kept.shape, dtype=bool)
    here = np.zeros((len(kept), *kept.shape[2:]), dtype=np.int16)
    count = anchors.reshape(-1, *[1] * (kept.ndim - 2))
    for place in range(kept.shape[1]):
        on_walk[:, place] = (here == place) & (place < count)
        here += on_walk[:, place] * (kept[:, place] + 1)
    return on_walk


def walk_sums(accepted: np.ndarray, anchors: np.ndarray, depth: int) -> dict[str, Floats]:
    """Rounds and kept drafts of the walk for every draft length, and the counts over all anchors that need no control."""
    lengths = np.arange(1, depth + 1, dtype=np.int16)
    short = np.minimum(accepted[:, :, None], lengths)
    on_walk = visited(short, anchors)
    usable = np.arange(accepted.shape[1]) < anchors[:, None]
    reached = accepted[:, :, None] >= lengths
    return {
        "anchors": anchors.astype(float),
        "accepted": total(accepted, usable),
        "kept_at": total(reached, usable),
        "walk_rounds": total(on_walk[:, :, -1], usable),
        "walk_kept_at": total(reached, on_walk[:, :, -1]),
        "rounds_by_length": total(on_walk, usable),
        "kept_by_length": total(short * on_walk, usable),
    }


def guess_sums(right: np.ndarray, fresh: np.ndarray | None, anchors: np.ndarray) -> dict[str, Floats]:
    """All that follows from which guesses are right, those of the controls where there are some; both (prompt, anchor, depth)."""
    usable = np.arange(right.shape[1]) < anchors[:, None]
    sums = {**walk_sums(accepted_of(right), anchors, right.shape[2]), "forced_match": total(right, usable)}
    if fresh is not None:
        sums |= {"fresh_match": total(fresh, usable), "fresh_accepted": total(accepted_of(fresh), usable)}
    return sums


def total(values: np.ndarray, counted: np.ndarray) -> Floats:
    """Sum over the anchors of each prompt that are counted; (prompt, anchor, ...), (prompt, anchor) -> (prompt, ...)."""
    found: Floats = (values * counted.reshape(*counted.shape, *[1] * (values.ndim - 2))).sum(axis=1, dtype=float)
    return found


def binned(probability: Floats, weights: np.ndarray, bins: int = 10) -> Floats:
    """Sums of weights by prompt, depth and how large a probability is; both (prompt, anchor, depth) -> (prompt, depth, bin)."""
    prompts, _, depth = probability.shape
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    place += bins * np.arange(depth) + bins * depth * np.arange(prompts)[:, None, None]
    found = np.bincount(place.ravel(), weights.ravel(), minlength=prompts * depth * bins).astype(float)
    return found.reshape(prompts, depth, bins)
