"""What guesses that need no drafter get on the same texts, and where a text goes round in circles: from its token ids alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Fewest and most tokens of a suffix that is looked up: as Saxena's prompt lookup decoding (2023) does, and vLLM unless told.
SHORT, DEFAULT = (1, 3), (5, 5)
PERIOD = 64  # tokens of the longest loop that counts (chosen by us)
LOOP = 16  # tokens, at least, that must stand as one period before, and at least a whole period of them (chosen by us)


def lookup_accepted(ids: Sequence[int], first: int, anchors: int, depth: int, sizes: tuple[int, int] = SHORT) -> np.ndarray:
    """Drafts kept at each of `anchors` anchors from `first` on when the draft is what followed the last tokens where they stood before.

    The longest suffix of as many tokens as `sizes` admits that stands earlier in the text is taken, where it stood first, which is the
    rule of vLLM's `ngram` method. (anchor,). Source: vLLM 0.32 v1/spec_decode/ngram_proposer.py.
    """
    return lookup(ids, first, anchors, depth, sizes)[1]


def lookup(ids: Sequence[int], first: int, anchors: int, depth: int, sizes: tuple[int, int] = SHORT) -> tuple[np.ndarray, np.ndarray]:
    """How many tokens such a lookup drafts at each anchor, 0 where it finds nothing, and how many of them are right; (anchor,) each."""
    fewest, most = sizes
    seen: dict[tuple[int, ...], int] = {}
    drafted, kept = np.zeros(anchors, dtype=np.int64), np.zeros(anchors, dtype=np.int64)
    for at in range(first + anchors):
        suffixes = [tuple(ids[at + 1 - size : at + 1]) for size in range(min(most, at + 1), fewest - 1, -1)]
        if at >= first:
            follows = next((seen[suffix] + 1 for suffix in suffixes if suffix in seen), None)
            draft = [] if follows is None else ids[follows : min(follows + depth, at + 1)]
            drafted[at - first], kept[at - first] = len(draft), _leading(draft, ids[at + 1 :])
        for suffix in suffixes:
            seen.setdefault(suffix, at)
    return drafted, kept


def _leading(draft: Sequence[int], text: Sequence[int]) -> int:
    return next((place for place, (own, other) in enumerate(zip(draft, text, strict=False)) if own != other), min(len(draft), len(text)))


def looping(ids: Sequence[int], first: int, anchors: int) -> np.ndarray:
    """Whether the reply, which begins at `first`, goes round in circles at each of its first anchors; (anchor,).

    It does where the last tokens, `LOOP` of them or a whole period if that is more, are those that stand one period before them.
    """
    reply, found = np.asarray(ids[first : first + anchors]), np.zeros(anchors, dtype=bool)
    for period in range(1, min(PERIOD, anchors // 2) + 1):
        same = np.r_[np.zeros(period, dtype=bool), reply[period:] == reply[:-period]]
        places = np.arange(anchors)
        since = places - np.maximum.accumulate(np.where(same, -1, places))  # tokens in a row that stood one period before
        found |= since >= max(LOOP, period)
    return found


def others_favourites(replies: Sequence[Sequence[int]]) -> np.ndarray:
    """For each prompt's reply tokens the most frequent token of all others', the lowest of several; (prompt,)."""
    tokens = np.unique(np.concatenate([np.asarray(reply, dtype=np.int64) for reply in replies]))
    counts = np.stack([np.bincount(np.searchsorted(tokens, reply), minlength=len(tokens)) for reply in replies])
    favourites: np.ndarray = tokens[(counts.sum(axis=0) - counts).argmax(axis=1)]
    return favourites
