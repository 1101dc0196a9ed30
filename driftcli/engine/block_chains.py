"""Blocks of every anchor of some texts at once, on keys of the verified positions that all blocks of a text share.

A block drafter guesses a block in one pass, so nothing is fed back: the forced chain of an anchor is its block, and so is the free one,
unless each token's scores are corrected by the token before it, the text's or its own.
The control of its depth `d` is the first guess of the block anchored `d - 1` positions later: the same text to guess with the target's own
tokens, and its streams, in front of it. In a block whose rows see one another the number of rows moves every guess, so a draft length is
drafted by itself and never cut from a longer block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from driftcli.conditions import DraftSettings
from driftcli.engine.attention import LABELS, Masses, Shared
from driftcli.engine.block_attention import BlockSight, attend_blocks
from driftcli.engine.drafted import Apart, Drafted, Guesses, Laid, Queries, packed_streams, row_labels, window_kept
from driftcli.engine.packing import Block as Together
from driftcli.engine.packing import Packing, Whole
from driftcli.engine.trajectories import Trajectory
from driftcli.families.block.drafter import Block, BlockLayer
from driftcli.families.self_feeding import RopeTables

TOGETHER_ON_CPU = 2048  # rows of blocks that go through the layers at once (chosen by us: their MLPs' inner numbers stay below 200 MB)
TOGETHER = 1 << 15  # the same elsewhere


@dataclass(frozen=True, slots=True)
class DraftedBlocks(Drafted):
    """What the blocks of some texts gave; `fresh` are the first guesses of the anchors `P .. N-2`. own_masked: whether a query's own
    key is of a mask token, so ahead of the anchor whatever it is held against.
    """

    own_masked: bool = True

    def control(self, depth: int) -> Queries:
        """The first guesses of the blocks anchored `d - 1` later, their attention cut at the anchor of the query that they control."""
        found, skip = Drafted.control(self, depth), int(self.own_masked)
        assert found.masses is not None
        return replace(found, masses=_cut_back(found.masses, skip, depth - 1))

    def ahead(self, queries: Queries, depth: int, *, fresh: bool) -> int | None:
        """Nothing is left to cut."""
        return None


def _cut_back(masses: Masses, skip: int, count: int) -> Masses:
    """Attention with the mass of `count` of the last keys, behind the first `skip` of them, moved from the verified tokens to the chain."""
    moved = masses.tail[..., skip : skip + count].sum(-1)
    label = masses.label.clone()
    label[..., LABELS.index("chain")] += moved
    label[..., LABELS.index("verified")] = (label[..., LABELS.index("verified")] - moved).clamp(min=0)
    return replace(masses, label=label)


@torch.inference_mode()
def draft_blocks(
    drafter: Block,
    texts: Sequence[Trajectory],
    settings: DraftSettings,
    horizon: int,
    *,
    free: bool,
    to_end: bool = False,
    apart: Sequence[Apart] = (),
) -> Drafted:
    """The blocks of every anchor whose guesses up to `horizon` lie inside its text; as `draft_together` otherwise."""
    drafter = drafter.wired(settings.wiring)
    counts, rows = tuple(text.n_anchors(horizon) for text in texts), tuple(len(text.text.ids) - 2 for text in texts)
    fused = drafter.fuse(packed_streams(texts, rows, drafter.boundaries))
    context, every = (Packing(some, fused.device) for some in (rows, tuple(text.n_anchors(1) for text in texts)))
    laid = Laid.of(texts, settings.depth, fused.device)
    run = _Blocks(drafter, texts, settings, context, every, laid, window_kept(context, apart))
    outputs, masses = run.through(fused)
    found = run.guess(outputs, masses, forced=True)
    own = run.guess(outputs, masses, forced=False) if free and drafter.correction else found
    inside = every.places < every.spread(counts)
    drafted = [queries.guesses.drafted for queries in found]
    behind = laid.kept_inside(drafted, every, run.anchors, np.flatnonzero(~inside)) if to_end else None
    first, anchors = every.sent(np.flatnonzero(inside)), Packing(counts, fused.device)
    chain, deployed = ([queries.pick(first) for queries in some] if anchors.total else [] for some in (found, own))
    return DraftedBlocks(every, anchors, found[0], chain, deployed if free else [], behind, own_masked=drafter.guessing(1) == 1)


@dataclass(frozen=True)
class _Blocks:
    """The drafting of some texts under one setting; context: how many rows each has; every: how many anchors; laid: their tokens;
    kept: context rows that a window does not hide, (text, row).
    """

    drafter: Block
    texts: Sequence[Trajectory]
    settings: DraftSettings
    context: Packing
    every: Packing
    laid: Laid
    kept: Tensor | None

    @cached_property
    def anchors(self) -> Whole:
        """Positions of all anchors of each text. (anchor,)"""
        return self.every.places + self.every.spread([text.prompt_length for text in self.texts])

    @cached_property
    def placed(self) -> Tensor:
        """The same, where is computed with them."""
        return self.every.sent(self.anchors)

    @cached_property
    def guessing(self) -> Tensor:
        """Which row of a block guesses at each depth. (depth,)"""
        return torch.tensor([self.drafter.guessing(one) for one in range(1, self.settings.depth + 1)], device=self.every.device)

    def tokens(self, further: int) -> Tensor:
        """Tokens so far behind all anchors. (anchor,)"""
        return self.laid.tokens(self.every, self.anchors + further)

    def through(self, fused: Tensor) -> tuple[Tensor, Masses]:
        """What the output head reads of every guessing row (anchor, depth, width), and these rows' attention, anchor after anchor."""
        drafter, context, block = self.drafter, self.context, self.drafter.rows(self.settings.depth)
        known, turned = drafter.context(fused), Packing(tuple(count + block + 1 for count in context.counts), fused.device)
        rope, labels = drafter.ropes(turned.counts), row_labels(self.texts, context, 0)
        index = context.sent(context.places + context.spread(turned.offsets[:-1]))
        steps = [one.layer.project(known, index, rope) for one in drafter.layers]
        keys = [Shared.of(context, step.key, step.value, labels) for step in steps]
        begins = self.every.sent(self.anchors + self.every.spread(turned.offsets[:-1]))
        rows = begins[:, None] + torch.arange(block, device=fused.device)
        most = TOGETHER_ON_CPU if fused.device.type == "cpu" else TOGETHER
        parts = [self._some(keys, rope, rows, some) for some in self.every.blocks(most // block)]
        return torch.cat([output for output, _ in parts]), Masses.joined([masses for _, masses in parts], dim=2)

    def _some(self, keys: Sequence[Shared], rope: RopeTables, rows: Tensor, some: Together) -> tuple[Tensor, Masses]:
        """The same of some anchors; rows: of the rope's, (anchor, row of its block)."""
        depth, size, guessing = self.settings.depth, rows.shape[1], self.guessing
        stream = self.drafter.embed(self.tokens(0)[some.items], size).flatten(0, 1)
        parts = []
        for layer, shared in zip(self.drafter.layers, keys, strict=True):
            flow = layer.enter(stream, size)
            step = layer.layer.project(flow.inputs, rows[some.items].flatten(), rope)
            seen, sight = shared.part(some.texts, shared.rows), self._sight(layer, size).some(some)
            attended, masses = attend_blocks(step, some.packing, seen, sight, guessing, layer.layer, depth)
            parts.append(masses)
            stream = layer.leave(flow.residual, attended, size)
        output = torch.unflatten(self.drafter.finish(stream), 0, (some.packing.total, size))[:, guessing]
        return output, Masses.joined(parts, dim=0)

    def _sight(self, layer: BlockLayer, rows: int) -> BlockSight:
        """The condition's window, counted from a query's own row, in place of the layer's own."""
        own, window = layer.layer, self.settings.window
        if window is not None:
            return BlockSight(self.placed, rows, layer.causal, window, False, self.kept)
        return BlockSight(self.placed, rows, layer.causal, own.window, own.from_anchor, self.kept)

    def guess(self, output: Tensor, masses: Masses, *, forced: bool) -> list[Queries]:
        """Every depth's queries over all anchors, a correction following the text or the guesses themselves; past the text's end stand
        guesses that nobody reads.
        """
        count, depth, _ = output.shape
        places, temperature = torch.arange(count, device=output.device) * depth, self.texts[0].temperature
        correction, found, state = self.drafter.correction, list[Queries](), output.new_zeros(0)
        for place in range(depth):
            before = self.tokens(place) if forced or not found else found[-1].guesses.drafted
            logits = self.drafter.logits(output[:, place])
            if correction is not None:
                state = state if found else correction.begin(count)
                logits, state = correction.step(output[:, place], logits, before, state)
            wanted = self.drafter.to_draft(self.tokens(place + 1))
            guesses = Guesses.by_head(lambda scores: scores, logits, wanted, logits.shape[1], temperature)
            sure = None if self.drafter.confidence is None else self.drafter.confidence(output[:, place], before)
            guesses = replace(guesses, drafted=self.drafter.to_target(guesses.drafted), confidence=sure)
            found.append(Queries(guesses, masses.pick(places + place)))
        return found
