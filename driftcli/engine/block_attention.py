"""Attention of the rows of many blocks: over context rows that all blocks of a text share, and over the rows of the query's own block."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from driftcli.engine.attention import (
    LABELS,
    MASKED,
    Keys,
    Masses,
    Shared,
    Weights,
    attention_blocks,
    divided,
    over_shared,
    reduce,
    tail_length,
)
from driftcli.engine.packing import Block, Packing
from driftcli.families.self_feeding import DrafterLayer, Projected


@dataclass(frozen=True, slots=True)
class BlockSight:
    """What the rows of the blocks at some anchors see: the context rows before their anchor, and the rows of their own block.

    anchors: (anchor,) positions, of several texts packed. rows: of a block. causal: no row sees a later one. window: how far, in rows, None
    for all: both ways unless causal, counted from a query's own row, or from the anchor, which then sees so many context rows with all of
    its block. kept: (text, context row) those that are seen whatever the window.
    """

    anchors: Tensor
    rows: int
    causal: bool
    window: int | None
    from_anchor: bool
    kept: Tensor | None

    def part(self, block: Block) -> BlockSight:
        """The blocks of some anchors, side by side: (text, anchor)."""
        anchors = block.packing.side_by_side(self.anchors[block.items], 0)
        return replace(self, anchors=anchors, kept=None if self.kept is None else self.kept[block.texts])

    def some(self, block: Block) -> BlockSight:
        """The same, still packed."""
        return replace(self, anchors=self.anchors[block.items], kept=None if self.kept is None else self.kept[block.texts])

    def hidden(self, context: int) -> Tensor:
        """Which keys, context rows and then the block's own, each query does not see; (..., anchor, row, key)."""
        anchors, place = self.anchors[..., None, None], torch.arange(self.rows, device=self.anchors.device)
        index, own = torch.arange(context, device=self.anchors.device), place[:, None]
        shared, within = index >= anchors, torch.zeros(self.rows, self.rows, dtype=torch.bool, device=place.device)
        if self.causal:
            within = place > own
        if self.window is not None:
            lowest = anchors - self.window if self.from_anchor else anchors + own - self.window + 1
            early = index < lowest
            shared = shared | (early if self.kept is None else early & ~self.kept[:, None, None, :context])
            if not self.from_anchor:
                within = within | ((place - own).abs() >= self.window)
        shape = (*self.anchors.shape, self.rows, -1)
        return torch.cat([shared.expand(*shape[:-1], context), within.expand(*shape[:-1], self.rows)], dim=-1)


def attend_blocks(
    step: Projected, anchors: Packing, shared: Shared, sight: BlockSight, asked: Tensor, layer: DrafterLayer, depth: int
) -> tuple[Tensor, Masses]:
    """Attention output (anchor * row, head * value size) of blocks laid one behind the other in `step`, and the reduction of some of their
    rows, (anchor * asked row).

    anchors: how many each text has. shared: keys and values of the context rows. asked: (row,) of a block. depth: of the deepest cut that
    is made.
    """
    query, key, value = (torch.unflatten(part, 1, (anchors.total, sight.rows)) for part in (step.query, step.key, step.value))
    outputs, parts = [], []
    for block in attention_blocks(anchors, len(query) * sight.rows, max(shared.rows) + sight.rows):
        some, items = block.packing, block.items
        scaled, *own = (some.side_by_side(part[:, items], 1).transpose(0, 1) for part in (query.float() * layer.scale, key, value))
        seen = shared.part(block.texts, shared.rows)
        output, masses = _block(scaled, seen, Keys(*own), sight.part(block), asked, layer.sinks, depth)
        outputs.append(some.behind_one_another(output, 0).flatten(0, 1))
        parts.append(masses.behind_one_another(some.times(len(asked))))
    return torch.cat(outputs).to(step.query.dtype), Masses.joined(parts, dim=2)


def _block(
    scaled: Tensor, shared: Shared, own: Keys, sight: BlockSight, asked: Tensor, sinks: Tensor | None, depth: int
) -> tuple[Tensor, Masses]:
    """The same of blocks side by side, (text, head, anchor, row, size) each: the output (text, anchor, row, head * value size)."""
    (texts, heads, count, rows, _), context = scaled.shape, shared.key.shape[2]
    grouped = torch.unflatten(scaled, 1, (shared.key.shape[1], -1))
    before = (grouped.flatten(2, 4) @ shared.key.transpose(2, 3)).view(texts, heads, count * rows, context)
    inside = torch.einsum("tkgars,tkabs->tkgarb", grouped, own.key.float()).reshape(texts, heads, count * rows, rows)
    scores = torch.cat([before, inside], dim=-1).masked_fill_(sight.hidden(context).flatten(1, 2)[:, None], MASKED)
    weights = Weights.of(scores, sinks)
    shares, output, by_label = over_shared(weights, shared)
    ours = torch.unflatten(shares[..., context:], 3, (count, rows))
    output = output + torch.einsum("tkgarb,tkabs->tkgars", ours, own.value).flatten(3, 4)
    by_label[..., LABELS.index("verified")] += weights.raw[..., context]  # the anchor's own row is the last verified token
    by_label[..., LABELS.index("chain")] += weights.raw[..., context + 1 :].sum(-1)
    places = (torch.arange(count, device=asked.device)[:, None] * rows + asked).flatten()
    some = Weights(*(part[:, :, places] for part in (weights.raw, weights.total, weights.entropy, weights.divisor)))
    tail = _tail(sight, context, tail_length(depth + 1))[:, None, places]
    masses = reduce(some, by_label[:, :, places], tail, context)
    return torch.unflatten(divided(output, weights, shared), 1, (count, rows)), masses


def _tail(sight: BlockSight, shared: int, length: int) -> Tensor:
    """Key indices (text, query, length) of each query's last keys by position, its own first, -1 where there are no more."""
    place, back = torch.arange(sight.rows, device=sight.anchors.device)[:, None], torch.arange(length, device=sight.anchors.device)
    inside = place - back
    before = (sight.anchors[..., None, None] + inside).clamp(min=-1)
    return torch.where(inside >= 0, inside + shared, before).flatten(1, 2)
