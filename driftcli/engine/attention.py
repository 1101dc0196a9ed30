"""Attention of a step and what is measured of it, block by block: no (head, query, key) tensor of a whole trajectory is ever kept.

A reduction keeps, for every head and query, the mass on each label of keys (template, prompt, verified, the query's own chain), on each
of the first rows (sink candidates), on each of the last keys (the cut of a control moves with its depth, `recent` counts the last four),
and the entropy. One pass over the fresh queries then serves the cut of every depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from driftcli.domain import RECENT_KEYS

LABELS = ("template", "prompt", "verified", "chain")
CANDIDATES = 16  # rows 0..15 can be the sink (design rule)
MASKED = -1e30  # a score that no real one reaches and that stays finite when the largest is subtracted
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
    """Which shared rows each query sees: from `lowest` to `last`, both included, and what is kept before; (query,) each, kept (row,).

    The query's own chain's rows follow `last`. row_bias (row,) and chain_bias are added in nats to the scores of shared and of chain keys.
    """

    lowest: Tensor
    last: Tensor
    kept: Tensor | None = None
    row_bias: Tensor | None = None
    chain_bias: float = 0.0

    @classmethod
    def of(cls, last: Tensor, own_chain: int, window: int | None, kept: Tensor | None = None) -> Sight:
        """A window counts rows, the query's own included; the query's own row is `last + own_chain`."""
        lowest = torch.zeros_like(last) if window is None else last + own_chain - window + 1
        return cls(lowest, last, kept)

    def part(self, block: slice) -> Sight:
        """The queries of one block."""
        return replace(self, lowest=self.lowest[block], last=self.last[block])

    def hidden(self, rows: int) -> Tensor:
        """Which of the shared rows each query does not see; (query, row)."""
        index = torch.arange(rows, device=self.last.device)
        early = index < self.lowest[:, None]
        return (index > self.last[:, None]) | (early if self.kept is None else early & ~self.kept[:rows])


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


def label_columns(labels: Tensor, chain: int) -> Tensor:
    """One-hot columns (key, 4) of shared rows, whose `labels` index `LABELS`, and of `chain` keys after them."""
    own = torch.full((chain,), LABELS.index("chain"), device=labels.device)
    return F.one_hot(torch.cat([labels.long(), own]), len(LABELS)).float()


def tail_keys(last: Tensor, chain: Tensor, length: int) -> Tensor:
    """Key indices (query, length) of each query's last keys, its own first, -1 where there are no more.

    last: (query,) its last shared row. chain: (query, step) indices of its chain's keys, oldest first.
    """
    steps = chain.shape[1]
    back = torch.arange(max(0, length - steps), device=last.device)
    rows = last[:, None] - back
    return torch.cat([chain.flip(1), rows.clamp(min=-1)], dim=1)[:, :length]


@dataclass(frozen=True, slots=True)
class Weights:
    """Attention before it is divided: `exp(score - max)` of every key (head, query, key), its sum and the entropy (head, query).

    divisor: the sum by which values are divided; a learned sink adds to it, while shares are of what goes to keys.
    """

    raw: Tensor
    total: Tensor
    entropy: Tensor
    divisor: Tensor

    @classmethod
    def of(cls, scores: Tensor, sinks: Tensor | None = None) -> Weights:
        """From scores with masked keys at `MASKED`, which are used up; sinks: (head,)."""
        largest = scores.amax(-1, keepdim=True)
        scores.sub_(largest)
        raw = scores.exp()
        total = raw.sum(-1)
        divisor = total if sinks is None else total + (sinks.float()[:, None] - largest[..., 0]).exp()
        return cls(raw, total, total.log() - torch.linalg.vecdot(raw, scores) / total, divisor)


def reduce(weights: Weights, by_label: Tensor, tail: Tensor, rows: int) -> Masses:
    """The reduction of a block: its masses by label (head, query, 4), still undivided, and the rest from the weights; tail: (query, T)."""
    heads, queries, _ = weights.raw.shape
    total = weights.total[..., None]
    first = weights.raw.new_zeros(heads, queries, CANDIDATES)
    seen = min(rows, CANDIDATES)
    first[..., :seen] = weights.raw[..., :seen] / total
    last = weights.raw.gather(-1, tail.clamp(min=0).expand(heads, -1, -1)) * (tail >= 0) / total
    return Masses((by_label / total)[None], first[None], last[None], weights.entropy[None])


def attend(
    query: Tensor, fresh: Keys, chain: Keys | None, sight: Sight, labels: Tensor, tail: int, scale: float, sinks: Tensor | None = None
) -> tuple[Tensor, Masses]:
    """Attention output (query, head * value size) and its reduction, for queries (head, query, size).

    Query `n` sees the shared rows of its sight and, as its latest keys, its own chain `chain.key[:, n]`, the query's own key last.
    labels: (row,). scale: what scores are multiplied with. sinks: (head,), learned scores of no key.
    """
    steps = 0 if chain is None else chain.key.shape[2]
    columns = label_columns(labels, steps)
    wide = Keys(fresh.key.float(), fresh.value)  # scores are taken in float32, as serving kernels accumulate them; converted once a call
    outputs, parts = [], []
    for block in _blocks(query, len(labels) + steps):
        own = None if chain is None else Keys(chain.key[:, block], chain.value[:, block])
        output, masses = _block(query[:, block].float() * scale, wide, own, sight.part(block), columns, tail, sinks)
        outputs.append(output)
        parts.append(masses)
    return torch.cat(outputs).to(query.dtype), Masses.joined(parts, dim=2)


def attend_unmeasured(query: Tensor, fresh: Keys, sight: Sight, scale: float, sinks: Tensor | None = None) -> Tensor:
    """Attention output (query, head * value size) of queries that nothing is asked of but their place under further layers."""
    rows, outputs = fresh.key.shape[1], [fresh.value.new_empty(len(query), 0, fresh.value.shape[-1])]
    for block in _blocks(query, rows):
        seen = ~sight.part(block).hidden(rows)
        outputs.append(sdpa(query[None, :, block], fresh.key[None], fresh.value[None], seen, scale, sinks)[0])
    return torch.cat(outputs, dim=1).transpose(0, 1).flatten(1)


def sdpa(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, scale: float, sinks: Tensor | None) -> Tensor:
    """torch's attention, (batch, head, n, size); learned sinks (head,) are a further key of that score, whose value is nothing.

    seen: (n, key), None for all.
    """
    if sinks is not None:
        batch, heads, count, _ = query.shape
        plain = torch.zeros(count, key.shape[2], device=query.device, dtype=query.dtype)
        bias = plain if seen is None else plain.masked_fill(~seen, -torch.inf)
        seen = torch.cat([bias.expand(batch, heads, -1, -1), sinks.to(bias)[:, None, None].expand(batch, -1, count, 1)], dim=-1)
        key, value = F.pad(key, (0, 0, 0, 1)), F.pad(value, (0, 0, 0, 1))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scale, enable_gqa=True)


def _blocks(query: Tensor, keys: int) -> Iterator[slice]:
    size = max(1, BLOCK // (query.shape[0] * keys))
    return (slice(start, min(start + size, query.shape[1])) for start in range(0, query.shape[1], size))


def _block(
    scaled: Tensor, fresh: Keys, chain: Keys | None, sight: Sight, columns: Tensor, tail: int, sinks: Tensor | None
) -> tuple[Tensor, Masses]:
    """Scores, weights, output and reduction of some queries, already scaled (a float16 query would overflow before the scale)."""
    heads, queries, size = scaled.shape
    key_heads, rows, _ = fresh.key.shape
    grouped = scaled.view(key_heads, heads // key_heads, queries, size)
    hidden = sight.hidden(rows)
    scores = (grouped.reshape(key_heads, -1, size) @ fresh.key.transpose(1, 2)).view(heads, queries, rows)
    if sight.row_bias is not None:
        scores = scores + sight.row_bias[:rows]
    steps = torch.arange(0 if chain is None else chain.key.shape[2], device=scaled.device)
    if chain is not None:
        own = torch.einsum("kgqd,kqcd->kgqc", grouped, chain.key.float()).reshape(heads, queries, -1)
        scores = torch.cat([scores, own + sight.chain_bias], dim=-1)
        hidden = torch.cat([hidden, sight.last[:, None] + 1 + steps < sight.lowest[:, None]], dim=1)
    weights = Weights.of(scores.masked_fill_(hidden, MASKED), sinks)
    output, by_label = _weighted(weights, fresh.value, None if chain is None else chain.value, columns)
    masses = reduce(weights, by_label, tail_keys(sight.last, (rows + steps).expand(queries, -1), tail), rows)
    return output, masses


def _weighted(weights: Weights, values: Tensor, own: Tensor | None, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Output (query, head * value size), and undivided mass by label (head, query, 4).

    values: (key head, row, size). In float32 the labels ride along as further columns of the values, which saves a pass over the weights.
    """
    heads, queries, keys = weights.raw.shape
    key_heads, rows, size = values.shape
    together = values.dtype == torch.float32
    raw = weights.raw.view(key_heads, -1, queries, keys)
    shares = raw if together else (weights.raw / weights.divisor[..., None]).to(values.dtype).view_as(raw)
    beside = torch.cat([values, columns[:rows].expand(key_heads, -1, -1)], dim=-1) if together else values
    out = (shares[..., :rows].reshape(key_heads, -1, rows) @ beside).view(key_heads, -1, queries, beside.shape[-1])
    output, by_label = out[..., :size], out[..., size:]
    if not together:
        by_label = raw @ columns
    if own is not None:
        output = output + torch.einsum("kgqc,kqcd->kgqd", shares[..., rows:], own)
        if together:
            by_label = by_label + raw[..., rows:] @ columns[rows:]
    output = output.reshape(heads, queries, size)
    output = output / weights.divisor[..., None] if together else output
    return output.transpose(0, 1).reshape(queries, -1), by_label.reshape(heads, queries, -1)
