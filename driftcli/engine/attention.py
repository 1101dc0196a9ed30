"""Attention of a step and what is measured of it, block by block: no (head, query, key) tensor of a whole trajectory is ever kept.

A reduction keeps, for every head and query, the mass on each label of keys (template, prompt, verified, the query's own chain), on each
of the first rows (sink candidates), on each of the last keys (the cut of a control moves with its depth, `recent` counts the last four),
and the entropy. One pass over the fresh queries then serves the cut of every depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from driftcli.domain import RECENT_KEYS

LABELS = ("template", "prompt", "verified", "chain")
CANDIDATES = 16  # rows 0..15 can be the sink (design rule)
BLOCK = 1 << 23  # attention scores computed at once, about 32 MiB in float32 (chosen by us)


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys and values: of shared rows (key head, row, size), or of each query's own chain (key head, query, step, size)."""

    key: Tensor
    value: Tensor

    def until(self, rows: int) -> Keys:
        """The first `rows` shared rows."""
        return Keys(self.key[:, :rows], self.value[:, :rows])


@dataclass(frozen=True, slots=True)
class Sight:
    """Which shared rows each query sees: from `lowest` to `last`, both included; (query,) each. Its own chain's rows follow `last`."""

    lowest: Tensor
    last: Tensor

    @classmethod
    def of(cls, last: Tensor, own_chain: int, window: int | None) -> Sight:
        """A window counts rows, the query's own included; the query's own row is `last + own_chain`."""
        lowest = torch.zeros_like(last) if window is None else last + own_chain - window + 1
        return cls(lowest, last)

    def part(self, block: slice) -> Sight:
        """The queries of one block."""
        return Sight(self.lowest[block], self.last[block])


@dataclass(frozen=True, slots=True)
class Masses:
    """What is kept of the attention of one feed at one depth.

    label (layer, head, query, 4) by `LABELS`; first (layer, head, query, 16); tail (layer, head, query, T) of the last T keys, own key
    first; entropy (layer, head, query) in nats.
    """

    label: Tensor
    first: Tensor
    tail: Tensor
    entropy: Tensor

    def pick(self, queries: Tensor) -> Masses:
        """The masses of some queries."""
        return Masses(self.label[:, :, queries], self.first[:, :, queries], self.tail[:, :, queries], self.entropy[:, :, queries])

    def to(self, device: torch.device) -> Masses:
        """The masses on another device."""
        return Masses(self.label.to(device), self.first.to(device), self.tail.to(device), self.entropy.to(device))

    @classmethod
    def joined(cls, parts: list[Masses], dim: int) -> Masses:
        """Blocks of queries (dim 2), or layers (dim 0), put together."""
        fields = zip(*((part.label, part.first, part.tail, part.entropy) for part in parts), strict=True)
        return cls(*(torch.cat(pieces, dim=dim) for pieces in fields))


def tail_length(depth: int) -> int:
    """Last keys kept apart so that every cut up to `depth`, and `recent`, can be made."""
    return max(depth - 1, RECENT_KEYS)


def key_columns(labels: Tensor, chain: int) -> Tensor:
    """One-hot columns (key, 4 + 16) of shared rows, whose `labels` index `LABELS`, and of `chain` keys after them."""
    rows = len(labels)
    columns = torch.zeros(rows + chain, len(LABELS) + CANDIDATES, device=labels.device)
    columns[torch.arange(rows, device=labels.device), labels.long()] = 1
    columns[rows:, LABELS.index("chain")] = 1
    first = torch.arange(min(rows, CANDIDATES), device=labels.device)
    columns[first, len(LABELS) + first] = 1
    return columns


def tail_keys(last: Tensor, chain: Tensor, length: int) -> Tensor:
    """Key indices (query, length) of each query's last keys, its own first, -1 where there are no more.

    last: (query,) its last shared row. chain: (query, step) indices of its chain's keys, oldest first.
    """
    steps = chain.shape[1]
    back = torch.arange(max(0, length - steps), device=last.device)
    rows = last[:, None] - back
    return torch.cat([chain.flip(1), rows.clamp(min=-1)], dim=1)[:, :length]


def measure(shares: Tensor, scores: Tensor, columns: Tensor, tail: Tensor) -> Masses:
    """The reduction of a block; shares and scores (head, query, key), masked scores at the dtype's minimum."""
    mass = shares @ columns
    last = shares.gather(-1, tail.clamp(min=0).expand(shares.shape[0], -1, -1)) * (tail >= 0)
    entropy = scores.logsumexp(-1) - (shares * scores).sum(-1)
    return Masses(mass[None, ..., : len(LABELS)], mass[None, ..., len(LABELS) :], last[None], entropy[None])


def attend(query: Tensor, fresh: Keys, chain: Keys | None, sight: Sight, labels: Tensor, tail: int) -> tuple[Tensor, Masses]:
    """Attention output (query, head * size) and its reduction, for queries (head, query, size).

    Query `n` sees the shared rows of its sight and, as its latest keys, its own chain `chain.key[:, n]`, the query's own key last.
    labels: (row,).
    """
    steps = 0 if chain is None else chain.key.shape[2]
    columns = key_columns(labels, steps)
    wide = Keys(fresh.key.float(), fresh.value)  # scores are taken in float32, as serving kernels accumulate them; converted once a call
    size = max(1, BLOCK // (query.shape[0] * (len(labels) + steps)))
    outputs, parts = [], []
    for start in range(0, query.shape[1], size):
        block = slice(start, min(start + size, query.shape[1]))
        own = None if chain is None else Keys(chain.key[:, block], chain.value[:, block])
        output, masses = _block(query[:, block], wide, own, sight.part(block), columns, tail)
        outputs.append(output)
        parts.append(masses)
    return torch.cat(outputs), Masses.joined(parts, dim=2)


def _block(query: Tensor, fresh: Keys, chain: Keys | None, sight: Sight, columns: Tensor, tail: int) -> tuple[Tensor, Masses]:
    heads, queries, size = query.shape
    key_heads, rows, _ = fresh.key.shape
    grouped = query.view(key_heads, heads // key_heads, queries, size)
    index = torch.arange(rows, device=query.device)
    hidden = (index > sight.last[:, None]) | (index < sight.lowest[:, None])
    scaled = grouped.float() * size**-0.5  # float16 would overflow before the scale
    scores = (scaled.reshape(key_heads, -1, size) @ fresh.key.transpose(1, 2)).view(heads, queries, rows)
    steps = torch.arange(0 if chain is None else chain.key.shape[2], device=query.device)
    if chain is not None:
        own = torch.einsum("kgqd,kqcd->kgqc", scaled, chain.key.float()).reshape(heads, queries, -1)
        scores = torch.cat([scores, own], dim=-1)
        hidden = torch.cat([hidden, sight.last[:, None] + 1 + steps < sight.lowest[:, None]], dim=1)
    scores = scores.masked_fill(hidden, torch.finfo(torch.float32).min)
    shares = scores.softmax(-1)
    grouped_shares = shares.to(query.dtype).view(key_heads, -1, queries, shares.shape[-1])
    output = (grouped_shares[..., :rows].reshape(key_heads, -1, rows) @ fresh.value).view(key_heads, -1, queries, size)
    if chain is not None:
        output = output + torch.einsum("kgqc,kqcd->kgqd", grouped_shares[..., rows:], chain.value)
    masses = measure(shares, scores, columns, tail_keys(sight.last, (rows + steps).expand(queries, -1), tail))
    return output.reshape(heads, queries, size).transpose(0, 1).reshape(queries, -1), masses
