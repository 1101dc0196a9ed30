"""Of a batch, the rows and tokens that its loss is over, where all would take too long."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

TAIL = 1024  # of the tokens that are not frequent, drawn anew for each batch, each standing for as many as it was drawn from


@dataclass(frozen=True)
class Drawn:
    """Rows to count of each batch, drawn anew for each from a seed; all of them where `rows` is 0."""

    rows: int
    seed: int

    def of(self, wanted_at: Tensor, unroll: int) -> Tensor:
        """`wanted_at` (conversation, position) with at most `rows` positions left, each counted at every unrolled step."""
        reached = torch.zeros_like(wanted_at)
        inside = slice(unroll, wanted_at.shape[1] - unroll)
        reached[:, inside] = wanted_at[:, inside]
        found = reached.flatten().nonzero()[:, 0]
        if not self.rows or len(found) <= self.rows:
            return wanted_at
        chosen = torch.randperm(len(found), generator=torch.Generator().manual_seed(self.seed))[: self.rows].to(found.device)
        return torch.zeros_like(wanted_at).view(-1).index_fill(0, found[chosen], True).view_as(wanted_at)


ALL_ROWS = Drawn(0, 0)


@dataclass(frozen=True)
class Among:
    """Tokens that a batch is scored over: ids (token,), and the log of how many tokens each stands for, (token,)."""

    ids: Tensor
    standing: Tensor

    @classmethod
    def drawn(cls, frequent: Tensor, vocabulary: int, seed: int) -> Among:
        """The frequent ids, and `TAIL` of the others."""
        others = torch.ones(vocabulary, dtype=torch.bool).index_fill(0, frequent, False).nonzero()[:, 0]
        tail = others[torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))[:TAIL]]
        for_each = math.log(len(others) / len(tail)) if len(tail) else 0.0
        return cls(torch.cat([frequent, tail]), torch.cat([torch.zeros(len(frequent)), torch.full((len(tail),), for_each)]))

    def weighed(self, scores: Tensor) -> Tensor:
        """Scores (..., token) whose softmax estimates what all tokens would give (sampled softmax)."""
        return scores + self.standing

    def to(self, device: torch.device) -> Among:
        """The same on a device."""
        return Among(self.ids.to(device), self.standing.to(device))
