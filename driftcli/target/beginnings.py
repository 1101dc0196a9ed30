"""What prompts begin with alike, so that it is read once: a system prompt, an example, a conversation that goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SHARED = 8  # tokens from which on a prompt takes over a beginning, or waits for a longer one (chosen by us)
NOBODYS = -1  # no token


@dataclass(frozen=True)
class Taken:
    """So many first tokens of a prompt are taken over from another, by its place, that is read before."""

    place: int = 0
    length: int = 0


def beginnings(prompts: Sequence[Sequence[int]], a_pass: int) -> list[Taken]:
    """What each prompt takes over from one before it, never all of it.

    A prompt waits until the one with which it shares most is read, but only while such waiting spares as many tokens, of all prompts that
    wait, as are read in the time of a further pass, which is `a_pass`.
    """
    alike, found = _alike(prompts), [Taken() for _ in prompts]
    read, waiting = np.zeros(len(prompts), dtype=bool), np.arange(len(prompts))
    while len(waiting):
        known = np.where(read, alike[waiting], 0)
        gain = alike[waiting].max(1) - known.max(1)
        gain[gain < SHARED] = 0
        now = gain == 0 if gain.sum() >= a_pass else np.ones(len(waiting), dtype=bool)
        for place, shared in zip(waiting[now], known[now], strict=True):
            if shared.max() >= SHARED:
                found[place] = Taken(int(shared.argmax()), int(shared.max()))
        read[waiting[now]] = True
        waiting = waiting[~now]
    return found


def _alike(prompts: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """First tokens that each prompt shares with each before it, (prompt, prompt), but for its own last one."""
    tokens = _filled(prompts)
    found = np.zeros((len(prompts), len(prompts)), dtype=np.int64)
    for row, ids in enumerate(prompts):
        found[row, :row] = (tokens[:row, : len(ids) - 1] == tokens[row, : len(ids) - 1]).cumprod(1).sum(1)
    return found


def _filled(prompts: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """Tokens by prompt and position, filled up behind their ends."""
    tokens = np.full((len(prompts), max(map(len, prompts))), NOBODYS)
    for row, ids in enumerate(prompts):
        tokens[row, : len(ids)] = ids
    return tokens


def taken_of(texts: Sequence[Sequence[int]], prompts: Sequence[Sequence[int]]) -> list[Taken]:
    """What each text begins with as one of the prompts does, the longest such beginning."""
    tokens = _filled(prompts)
    found = []
    for ids in texts:
        width = min(len(ids), tokens.shape[1])
        alike = (tokens[:, :width] == np.array(ids[:width])).cumprod(1).sum(1)
        found.append(Taken(int(alike.argmax()), int(alike.max())))
    return found


def waves(prompts: Sequence[Sequence[int]], taken: Sequence[Taken], places: range) -> list[list[int]]:
    """Prompts that are read at once, by their places, wave after wave: each after the one of them that it takes over from. In a wave those
    come first of which fewest tokens are left to read.
    """
    wave = dict[int, int]()
    for place in places:
        wave[place] = wave.get(taken[place].place, -1) + 1 if taken[place].length else 0

    def left(place: int) -> int:
        return len(prompts[place]) - taken[place].length

    return [sorted((place for place in places if wave[place] == number), key=left) for number in range(max(wave.values()) + 1)]


def common(texts: Sequence[Sequence[int]]) -> int:
    """Tokens that all texts begin with."""
    first = min(texts, key=len)
    return next((at for at in range(len(first)) if any(ids[at] != first[at] for ids in texts)), len(first))
