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
    drafts = looked_up(ids, first, anchors, depth, sizes)
    kept = [_leading(draft, ids[at + 1 : at + 1 + depth]) for at, draft in enumerate(drafts, first)]
    return np.array(list(map(len, drafts)), dtype=np.int64), np.array(kept, dtype=np.int64)


def looked_up(ids: Sequence[int], first: int, anchors: int, depth: int, sizes: tuple[int, int] = SHORT) -> list[list[int]]:
    """What such a lookup drafts at each anchor, at most `depth` tokens and none where it finds nothing."""
    read, drafts = Read(sizes), []
    for at in range(first + anchors):
        read.on(ids[at])
        if at >= first:
            drafts.append(read.draft(depth))
    return drafts


class Read:
    """A text read token by token, and where each suffix of as many tokens as `sizes` admits stood first."""

    def __init__(self, sizes: tuple[int, int]) -> None:
        self._fewest, self._most = sizes
        self._ids: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}  # of a suffix's first place
        self._new: list[list[tuple[int, ...]]] = []  # by position, the suffixes that first end there
        self._follows: list[int | None] = []  # by position, where that begins which followed the longest suffix before

    def __len__(self) -> int:
        return len(self._ids)

    def on(self, token: int) -> None:
        """Read one more token."""
        self._ids.append(token)
        at = len(self._ids) - 1
        new, follows = list[tuple[int, ...]](), None
        for size in range(min(self._most, at + 1), self._fewest - 1, -1):
            suffix = tuple(self._ids[at + 1 - size :])
            if (end := self._ends.setdefault(suffix, at)) == at:
                new.append(suffix)
            elif follows is None:
                follows = end + 1
        self._new.append(new)
        self._follows.append(follows)

    def back(self, length: int) -> None:
        """Take back all but the first `length` tokens."""
        for suffixes in self._new[length:]:
            for suffix in suffixes:
                del self._ends[suffix]
        del self._ids[length:], self._new[length:], self._follows[length:]

    def draft(self, depth: int) -> list[int]:
        """What is drafted behind the last token: at most `depth` tokens."""
        follows = self._follows[-1]
        return [] if follows is None else self._ids[follows : follows + depth]


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
