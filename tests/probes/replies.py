"""Replies by how far they have gone, made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from driftcli.statistics.positions import Replies
from driftcli.testing.heads import HAIR

ROUNDS = 20  # of every part


def falling(kept: Sequence[float | Sequence[float]], prompts: int = 10) -> Replies:
    """Replies of 64, 128, 256 ... tokens in which so many drafts are kept in 20 rounds of each part; several are dealt over prompts in turn."""
    by_part = np.stack([np.resize(np.atleast_1d(np.asarray(one, dtype=float)), prompts) for one in kept], axis=1)
    by_part -= HAIR * (np.arange(prompts) % 7)[:, None] * by_part**2
    even = np.ones_like(by_part)
    return Replies({"anchors": 64 * even, "rounds": ROUNDS * even, "kept": by_part}, np.arange(prompts), np.zeros(prompts, dtype=bool), 4)
