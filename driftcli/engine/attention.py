"""Attention of a step and what is measured of it, block by block: no (head, query, key) tensor of a whole trajectory is ever kept.

A reduction keeps, for every head and query, the mass on each label of keys (template, prompt, verified, the query's own chain), on each
of the first rows (sink candidates), on each of the last keys (the cut of a control moves with its depth, `recent` counts the last four),
and the entropy. One pass over the fresh queries then serves the cut of every depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from driftcli.domain import RECENT_KEYS
from driftcli.engine.packing import Block, Packing

LABELS = ("template", "prompt", "verified", "chain")
CANDIDATES = 16  # rows 0..15 can be the sink (design rule)
MASKED = -1e30  # a score that no real one reaches and that stays finite when the largest is subtracted
BLOCK = 1 << 23  # attention scores computed at once, about 32 MiB in float32 (chosen by us)
BLOCK_ON_CPU = 1 << 18  # the same on a CPU, whose cache they should not leave (measured: 1 << 16 and 1 << 20 take longer)
FEWEST = 16  # queries of a block, since all keys are gone through for each (measured at 8k and 32k keys: 4 and 64 take longer)

Seen: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys and values of each query's own chain, (key head, query, step, size)."""

    key: Tensor
    value: Tensor


@dataclass(frozen=True, slots=True)
class Shared:
    """What the queries of each text see: keys and values (text, key head, row, size), and one-hot labels of the rows (text, row, 4).

    Keys are in float32, as serving kernels accumulate scores. In float32 the labels ride along as further columns of the values, which
    saves a pass over the weights. rows: by text; those behind a text's last are seen by none.
    """

    key: Tensor
    value: Tensor
    columns: Tensor
    rows: tuple[int, ...]

    @classmethod
    def of(cls, rows: Packing, key: Tensor, value: Tensor, columns: Tensor) -> Shared:
        """From packed keys and values (key head, row, size)."""
        keys, values = (rows.side_by_side(part, 1).transpose(0, 1) for part in (key, value))
        return cls.beside(rows, keys, values, columns)

    @classmethod
    def beside(cls, rows: Packing, keys: Tensor, values: Tensor, columns: Tensor) -> Shared:
        """From keys and values side by side, (text, key head, row, size)."""
        if values.dtype == torch.float32:
            values = torch.cat([values, columns[:, None].expand(-1, values.shape[1], -1, -1)], dim=-1)
        return cls(keys.float().contiguous(), values.contiguous(), columns, rows.counts)

    @property
    def labelled(self) -> bool:
        """Whether the labels ride along."""
        return self.value.dtype == torch.float32

    @property
    def size(self) -> int:
        """Numbers of a value."""
        return self.value.shape[-1] - len(LABELS) * self.labelled

    def part(self, texts: slice, reach: Sequence[int]) -> Shared:
        """Some of the texts, and of each the rows that are reached: so many by text."""
        most = max(reach[texts])
        return Shared(self.key[texts, :, :most], self.value[texts, :, :most], self.columns[texts, :most], self.rows[texts])


@dataclass(frozen=True, slots=True)
class Sight:
    """Which shared rows each query sees: from `lowest` to `last`, both included, (query,) each, and what is `kept` before, (text, row).

    The query's own chain's rows follow `last`. row_bias (text, row) and chain_bias are added in nats to the scores of shared and of chain
    keys. reach: by text, how many of its rows are seen by any of its queries. seen: whether rows see others, by their numbers, which are
    broadcast, where a model says so in place of `lowest`; a query's own row is then `own` behind its last.
    """

    lowest: Tensor
    last: Tensor
    reach: tuple[int, ...]
    kept: Tensor | None = None
    row_bias: Tensor | None = None
    chain_bias: float = 0.0
    seen: Seen | None = None
    own: int = 0

    @classmethod
    def of(cls, last: Tensor, reach: tuple[int, ...], own_chain: int, window: int | None, kept: Tensor | None = None) -> Sight:
        """A window counts rows, the query's own included; the query's own row is `last + own_chain`."""
        lowest = torch.zeros_like(last) if window is None else last + own_chain - window + 1
        return cls(lowest, last, reach, kept)

    def part(self, block: Block) -> Sight:
        """The queries of one block, side by side: (text, query) each."""
        lowest, last = (block.packing.side_by_side(part[block.items], 0) for part in (self.lowest, self.last))
        kept, bias = (None if part is None else part[block.texts] for part in (self.kept, self.row_bias))
        return replace(self, lowest=lowest, last=last, kept=kept, row_bias=bias)

    def hidden(self, rows: int) -> Tensor:
        """Which of the shared rows each query of a block does not see; (text, query, row)."""
        index = torch.arange(rows, device=self.last.device)
        later = index > self.last[..., None]
        if self.seen is not None:
            return later | ~self.seen((self.last + self.own)[..., None], index)
        early = index < self.lowest[..., None]
        return later | (early if self.kept is None else early & ~self.kept[:, None, :rows])

    def hidden_chain(self, steps: int) -> Tensor:
        """Which rows of its own chain each query of a block does not see; (text, query, step)."""
        rows = self.last[..., None] + 1 + torch.arange(steps, device=self.last.device)
        return rows < self.lowest[..., None] if self.seen is None else ~self.seen((self.last + self.own)[..., None], rows)


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

    def behind_one_another(self, queries: Packing) -> Masses:
        """The masses of a block, (layer, text, head, query, ...) each, by packed queries."""
        fields = (self.label, self.first, self.tail, self.entropy)
        return Masses(*(queries.behind_one_another(field.transpose(1, 2), 2) for field in fields))

    @classmethod
    def joined(cls, parts: Sequence[Masses], dim: int) -> Masses:
        """Blocks of queries (dim 2), or layers (dim 0), put together."""
        if len(parts) == 1:
            return parts[0]
        fields = zip(*((part.label, part.first, part.tail, part.entropy) for part in parts), strict=True)
        return cls(*(torch.cat(pieces, dim=dim) for pieces in fields))


def tail_length(depth: int) -> int:
    """Last keys kept apart so that every cut up to `depth`, and `recent`, can be made."""
    return max(depth - 1, RECENT_KEYS)


def numbers_kept(depth: int) -> int:
    """Numbers that are kept of a query's attention, a head."""
    return len(LABELS) + CANDIDATES + tail_length(depth) + 1


def kept_of_chains(layers: int, heads: int, depth: int) -> int:
    """Numbers of attention that are kept of each token that is guessed at, of every head, depth and feed."""
    return layers * heads * numbers_kept(depth) * (2 * depth + 1)


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
    """The reduction of a block: its masses by label (head, query, 4), still undivided, and the rest from the weights; tail: (query, T).

    Axes of texts may stand in front of all of them.
    """
    total = weights.total[..., None]
    first = weights.raw.new_zeros(*weights.raw.shape[:-1], CANDIDATES)
    seen = min(rows, CANDIDATES)
    first[..., :seen] = weights.raw[..., :seen] / total
    last = weights.raw.gather(-1, tail.clamp(min=0).expand(*weights.raw.shape[:-1], -1)) * (tail >= 0) / total
    return Masses((by_label / total)[None], first[None], last[None], weights.entropy[None])


def attend(
    query: Tensor,
    queries: Packing,
    shared: Shared,
    chain: Keys | None,
    sight: Sight,
    tail: int,
    scale: float,
    sinks: Tensor | None = None,
    softcap: float | None = None,
) -> tuple[Tensor, Masses]:
    """Attention output (query, head * value size) and its reduction, for packed queries (head, query, size).

    Each sees the shared rows of its text within its sight and, as its latest keys, its own chain `chain.key[:, n]`, the query's own key
    last. scale: what scores are multiplied with. sinks: (head,), learned scores of no key. softcap: a bound that scores only come close to.
    """
    steps = 0 if chain is None else chain.key.shape[2]
    outputs, parts = [], []
    for block in attention_blocks(queries, len(query), max(sight.reach) + steps):
        some, items = block.packing, block.items
        scaled = some.side_by_side(query[:, items].float() * scale, 1).transpose(0, 1)
        own = None if chain is None else Keys(*(some.side_by_side(part[:, items], 1).transpose(0, 1) for part in (chain.key, chain.value)))
        keys, seen = shared.part(block.texts, sight.reach), sight.part(block)
        output, masses = _block(Weights.of(_scores(scaled, keys, own, seen, softcap), sinks), keys, own, seen, tail)
        outputs.append(some.behind_one_another(output, 0))
        parts.append(masses.behind_one_another(some))
    return torch.cat(outputs).to(query.dtype), Masses.joined(parts, dim=2)


def attend_unmeasured(query: Tensor, queries: Packing, shared: Shared, sight: Sight, scale: float, sinks: Tensor | None = None) -> Tensor:
    """Attention output (query, head * value size) of packed queries that nothing is asked of but their place under further layers."""
    outputs = [shared.value.new_empty(0, len(query) * shared.size)]
    for block in attention_blocks(queries, len(query), max(sight.reach)):
        keys = shared.part(block.texts, sight.reach)
        seen = ~sight.part(block).hidden(keys.key.shape[2])[:, None]
        padded = block.packing.side_by_side(query[:, block.items], 1).transpose(0, 1)
        found = sdpa(padded, keys.key.to(query.dtype), keys.value[..., : keys.size], seen, scale, sinks)
        outputs.append(block.packing.behind_one_another(found.transpose(1, 2), 0).flatten(1))
    return torch.cat(outputs)


def sdpa(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, scale: float, sinks: Tensor | None) -> Tensor:
    """torch's attention, (batch, head, n, size); learned sinks (head,) are a further key of that score, whose value is nothing.

    seen: (n, key), or (batch, 1, n, key), None for all.
    """
    if sinks is not None:
        batch, heads, count, _ = query.shape
        plain = torch.zeros(count, key.shape[2], device=query.device, dtype=query.dtype)
        bias = plain if seen is None else plain.masked_fill(~seen, -torch.inf)
        seen = torch.cat([bias.expand(batch, heads, -1, -1), sinks.to(bias)[:, None, None].expand(batch, -1, count, 1)], dim=-1)
        key, value = F.pad(key, (0, 0, 0, 1)), F.pad(value, (0, 0, 0, 1))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scale, enable_gqa=True)


def by_sequence(x: Tensor, batch: int) -> Tensor:
    """(head, batch * n, size) -> (batch, head, n, size)."""
    return x.reshape(len(x), batch, -1, x.shape[-1]).transpose(0, 1)


def attention_blocks(queries: Packing, heads: int, keys: int) -> Iterator[Block]:
    """The queries in blocks of which as many scores are computed at once as should be, each query having so many keys."""
    scores = BLOCK if queries.device.type != "cpu" else BLOCK_ON_CPU
    return queries.blocks(max(FEWEST, scores // (heads * keys)))


def _scores(scaled: Tensor, shared: Shared, chain: Keys | None, sight: Sight, softcap: float | None) -> Tensor:
    """Scores of some queries (text, head, query, size), already scaled (a float16 query would overflow before the scale), on the shared
    keys and then those of their chains; (text, head, query, key), hidden ones at `MASKED`.
    """
    texts, heads, queries, _ = scaled.shape
    _, key_heads, rows, _ = shared.key.shape
    grouped, hidden = torch.unflatten(scaled, 1, (key_heads, heads // key_heads)), sight.hidden(rows)
    scores = _bounded((grouped.flatten(2, 3) @ shared.key.transpose(2, 3)).view(texts, heads, queries, rows), softcap)
    if sight.row_bias is not None:
        scores = scores + sight.row_bias[:, None, None, :rows]
    if chain is not None:
        own = _bounded(torch.einsum("tkgqd,tkqcd->tkgqc", grouped, chain.key.float()).flatten(1, 2), softcap)
        scores = torch.cat([scores, own + sight.chain_bias], dim=-1)
        hidden = torch.cat([hidden, sight.hidden_chain(own.shape[-1])], dim=-1)
    return scores.masked_fill_(hidden[:, None], MASKED)


def _bounded(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


def _block(weights: Weights, shared: Shared, chain: Keys | None, sight: Sight, tail: int) -> tuple[Tensor, Masses]:
    """Output and reduction of some queries by their weights (text, head, query, key)."""
    texts, _, queries, keys = weights.raw.shape
    rows = shared.key.shape[2]
    output, by_label = _weighted(weights, shared, None if chain is None else chain.value)
    own = torch.arange(rows, keys, device=weights.raw.device).expand(texts * queries, -1)
    last = tail_keys(sight.last.flatten(), own, tail).view(texts, 1, queries, -1)
    return output, reduce(weights, by_label, last, rows)


def _weighted(weights: Weights, shared: Shared, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """Output (text, query, head * value size), and undivided mass by label (text, head, query, 4); own: values of the chains."""
    shares, output, by_label = over_shared(weights, shared)
    if own is not None:
        rows = shared.key.shape[2]
        output = output + torch.einsum("tkgqc,tkqcd->tkgqd", shares[..., rows:], own)
        by_label[..., LABELS.index("chain")] += weights.raw[..., rows:].sum(-1)
    return divided(output, weights, shared), by_label


def over_shared(weights: Weights, shared: Shared) -> tuple[Tensor, Tensor, Tensor]:
    """Of weights (text, head, query, key) those that values are added up by (text, key head, head of it, query, key), what the shared
    values come to (text, key head, head of it, query, value size), and the shared keys' undivided mass by label (text, head, query, 4).
    """
    key_heads, rows, size = shared.key.shape[1], shared.key.shape[2], shared.size
    raw = torch.unflatten(weights.raw, 1, (key_heads, -1))
    shares = raw if shared.labelled else (weights.raw / weights.divisor[..., None]).to(shared.value.dtype).view_as(raw)
    out = torch.unflatten(shares[..., :rows].flatten(2, 3) @ shared.value, 2, raw.shape[2:4])
    by_label = out[..., size:] if shared.labelled else raw[..., :rows] @ shared.columns[:, None, None]
    return shares, out[..., :size], by_label.flatten(1, 2)


def divided(output: Tensor, weights: Weights, shared: Shared) -> Tensor:
    """An output (text, key head, head of it, query, value size), divided where its shares were not, as (text, query, head * value size)."""
    output = output.flatten(1, 2)
    output = output / weights.divisor[..., None] if shared.labelled else output
    return output.transpose(1, 2).flatten(2)
