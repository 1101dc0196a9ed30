"""What prompts begin with alike, so that it is read once: a system prompt, an example, a conversation that goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SHARED = 8  # tokens from which on a beginning is taken over (chosen by us)
NOBODYS = -1  # no token


@dataclass(frozen=True)
class Beginning:
    """So many first tokens of a prompt, which are those of another, by its place, too."""

    place: int
    length: int


def beginnings(prompts: Sequence[Sequence[int]], slack: int) -> list[Beginning | None]:
    """Of each prompt what it takes over from one before it, less than all of it, None for few tokens.

    slack: tokens that may be read once more where prompts wait for fewer others then.
    """
    longest = max(map(len, prompts))
    tokens = np.full((len(prompts), longest + 1), NOBODYS)
    for row, ids in enumerate(prompts):
        tokens[row, : len(ids)] = ids
    found, waits = list[Beginning | None](), np.zeros(len(prompts), dtype=np.int64)
    for row, ids in enumerate(prompts):
        alike = np.minimum(_alike(tokens[:row], tokens[row, : len(ids)]), len(ids) - 1)
        if not row or alike.max() < SHARED:
            found.append(None)
            continue
        able = np.flatnonzero(alike >= max(SHARED, alike.max() - slack))
        source = int(able[waits[able].argmin()])
        waits[row] = waits[source] + 1
        found.append(Beginning(source, int(alike[source])))
    return found


def _alike(before: npt.NDArray[np.int64], ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """First tokens that each prompt before shares with this one."""
    other = np.ones((len(before), len(ids) + 1), dtype=bool)
    other[:, :-1] = before[:, : len(ids)] != ids
    first: npt.NDArray[np.int64] = other.argmax(1)
    return first


def waves(prompts: Sequence[Sequence[int]], begun: Sequence[Beginning | None], places: range) -> list[list[int]]:
    """Places of prompts that are read at once, one wave after the other: each behind what it takes over of these, in a wave those first of
    which least is to be read.
    """
    wave = dict[int, int]()
    for place in places:
        beginning = begun[place]
        wave[place] = 0 if beginning is None else wave.get(beginning.place, -1) + 1

    def rest(place: int) -> int:
        return len(prompts[place]) - (0 if (beginning := begun[place]) is None else beginning.length)

    return [sorted((place for place in places if wave[place] == number), key=rest) for number in range(max(wave.values()) + 1)]
