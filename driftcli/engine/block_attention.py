"""Attention of the rows of many blocks: over context rows that all blocks share, and over the rows of the query's own block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from driftcli.engine.attention import BLOCK, LABELS, MASKED, Keys, Masses, Weights, label_columns, reduce, tail_length
from driftcli.families.self_feeding import DrafterLayer, Projected


@dataclass(frozen=True, slots=True)
class BlockSight:
    """What the rows of the blocks at some anchors see: the context rows before their anchor, and the rows of their own block.

    anchors: (anchor,) positions. rows: of a block. causal: no row sees a later one. window: how far, in rows, None for all: both ways
    unless causal, counted from a query's own row, or from the anchor, which then sees so many context rows with all of its block. kept:
    (context row,) those that are seen whatever the window.
    """

    anchors: Tensor
    rows: int
    causal: bool
    window: int | None
    from_anchor: bool
    kept: Tensor | None

    def part(self, block: slice) -> BlockSight:
        """The blocks of some anchors."""
        return BlockSight(self.anchors[block], self.rows, self.causal, self.window, self.from_anchor, self.kept)

    def hidden(self, context: int) -> Tensor:
        """Which keys, context rows and then the block's own, each query does not see; (anchor, row, key)."""
        anchors, place = self.anchors[:, None, None], torch.arange(self.rows, device=self.anchors.device)
        index, own = torch.arange(context, device=self.anchors.device), place[:, None]
        shared, within = index >= anchors, torch.zeros(self.rows, self.rows, dtype=torch.bool, device=place.device)
        if self.causal:
            within = place > own
        if self.window is not None:
            lowest = anchors - self.window if self.from_anchor else anchors + own - self.window + 1
            early = index < lowest
            shared = shared | (early if self.kept is None else early & ~self.kept[:context])
            if not self.from_anchor:
                within = within | ((place - own).abs() >= self.window)
        shape = (len(self.anchors), self.rows, -1)
        return torch.cat([shared.expand(*shape[:2], context), within.expand(*shape[:2], self.rows)], dim=-1)


def attend_blocks(
    step: Projected, context: Keys, sight: BlockSight, labels: Tensor, layer: DrafterLayer, depth: int
) -> tuple[Tensor, Masses]:
    """Attention output (anchor * row, head * value size) and its reduction, of blocks laid one behind the other in `step`.

    context: keys and values of the context rows. labels: (position,) of the text's tokens. depth: of the deepest cut that is made.
    """
    count, rows, shared = len(sight.anchors), sight.rows, context.key.shape[1]
    columns = _columns(labels[:shared], rows)
    size = max(1, BLOCK // (step.query.shape[0] * rows * (shared + rows)))
    outputs, parts = [], []
    for start in range(0, count, size):
        block = slice(start, min(start + size, count))
        some = Projected(*(part[:, block.start * rows : block.stop * rows] for part in (step.query, step.key, step.value)))
        output, masses = _block(some, context, sight.part(block), columns, layer, depth)
        outputs.append(output)
        parts.append(masses)
    return torch.cat(outputs).to(step.query.dtype), Masses.joined(parts, dim=2)


def _columns(labels: Tensor, rows: int) -> Tensor:
    """One-hot columns (key, 4): the anchor's own row is the last verified token, those behind it are ahead of it."""
    own = torch.full((rows,), LABELS.index("chain"), device=labels.device)
    own[0] = LABELS.index("verified")
    return label_columns(torch.cat([labels.long(), own]), 0)


def _block(step: Projected, context: Keys, sight: BlockSight, columns: Tensor, layer: DrafterLayer, depth: int) -> tuple[Tensor, Masses]:
    count, rows, shared = len(sight.anchors), sight.rows, context.key.shape[1]
    (heads, _, size), key_heads = step.query.shape, len(step.key)
    query = (step.query.float() * layer.scale).view(key_heads, heads // key_heads, count, rows, size)
    own_key, own_value = (part.view(key_heads, count, rows, -1) for part in (step.key, step.value))
    before = torch.einsum("kgars,kcs->kgarc", query, context.key.float())
    inside = torch.einsum("kgars,kabs->kgarb", query, own_key.float())
    scores = torch.cat([before, inside], dim=-1).view(heads, count * rows, shared + rows)
    weights = Weights.of(scores.masked_fill_(sight.hidden(shared).flatten(0, 1), MASKED), layer.sinks)
    shares = (weights.raw / weights.divisor[..., None]).to(step.value.dtype).view(key_heads, -1, count, rows, shared + rows)
    output = torch.einsum("kgarc,kcs->kgars", shares[..., :shared], context.value)
    output = output + torch.einsum("kgarb,kabs->kgars", shares[..., shared:], own_value)
    masses = reduce(weights, weights.raw @ columns, _tail(sight, shared, tail_length(depth + 1)), shared)
    return output.reshape(heads, count * rows, -1).transpose(0, 1).flatten(1), masses


def _tail(sight: BlockSight, shared: int, length: int) -> Tensor:
    """Key indices (query, length) of each query's last keys by position, its own first, -1 where there are no more."""
    place, back = torch.arange(sight.rows, device=sight.anchors.device)[:, None], torch.arange(length, device=sight.anchors.device)
    inside = place - back
    before = (sight.anchors[:, None, None] + inside).clamp(min=-1)
    return torch.where(inside >= 0, inside + shared, before).flatten(0, 1)
