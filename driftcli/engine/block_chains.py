"""Blocks of every anchor of a trajectory at once, on keys of the verified positions that all of them share.

A block drafter guesses a block in one pass, so nothing is fed back: the forced chain of an anchor is its block, and so is the free one,
unless each token's scores are corrected by the token before it, the text's or its own.
The control of its depth `d` is the first guess of the block anchored `d - 1` positions later: the same text to guess with the target's own
tokens, and its streams, in front of it. In a block whose rows see one another the number of rows moves every guess, so a draft length is
drafted by itself and never cut from a longer block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from driftcli.conditions import DraftSettings
from driftcli.engine.attention import LABELS, Keys, Masses
from driftcli.engine.block_attention import BlockSight, attend_blocks
from driftcli.engine.drafted import Drafted, Guesses, Queries, kept_inside, marked
from driftcli.engine.packing import Packing
from driftcli.engine.trajectories import Trajectory
from driftcli.families.block.drafter import Block, BlockLayer
from driftcli.families.self_feeding import RopeTables

TOGETHER = 2048  # rows of blocks that go through the layers at once (chosen by us: their MLPs' inner numbers stay below 200 MB)


@dataclass(frozen=True, slots=True)
class DraftedBlocks(Drafted):
    """What the blocks of one trajectory gave; `fresh` are the first guesses of the anchors `P .. N-2`. own: whether a query's own key is of
    a mask token, so ahead of the anchor whatever it is held against.
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
    trajectory: Trajectory,
    settings: DraftSettings,
    horizon: int,
    *,
    free: bool,
    to_end: bool = False,
    kept: Sequence[int] = (),
) -> Drafted:
    """The blocks of every anchor whose guesses up to `horizon` lie inside the trajectory; as `draft_chains` otherwise."""
    drafter = drafter.wired(settings.wiring)
    rows, first = len(trajectory.ids) - 2, trajectory.prompt_length
    fused = drafter.fuse({boundary: trajectory.streams[boundary][:rows] for boundary in drafter.boundaries})
    n_anchors, n_all = trajectory.n_anchors(horizon), trajectory.n_anchors(1)
    tables = drafter.rope(rows + drafter.rows(settings.depth) + 1)
    run = _Blocks(drafter, trajectory, settings, tables, marked(Packing((rows,), fused.device), [kept])[0] if kept else None)
    outputs, masses = run.through(fused, first + torch.arange(n_all, device=fused.device))
    every = run.guess(outputs, masses, forced=True)
    behind = run.kept_behind(every, n_anchors) if to_end else None
    own = run.guess(outputs, masses, forced=False) if free and drafter.correction else every
    places = torch.arange(n_anchors, device=fused.device)
    chain, deployed = ([queries.pick(places) for queries in found] if n_anchors else [] for found in (every, own))
    all_of_it, anchors = (Packing((count,), fused.device) for count in (n_all, n_anchors))
    return DraftedBlocks(all_of_it, anchors, every[0], chain, deployed if free else [], behind, own_masked=drafter.guessing(1) == 1)


@dataclass(frozen=True)
class _Blocks:
    """The drafting of one trajectory under one setting; seen: context rows that a window does not hide."""

    drafter: Block
    trajectory: Trajectory
    settings: DraftSettings
    rope: RopeTables
    seen: Tensor | None

    @property
    def ids(self) -> Tensor:
        """The text's tokens."""
        return self.trajectory.ids.to(self.rope.cos.device)

    def through(self, fused: Tensor, anchors: Tensor) -> tuple[Tensor, Masses]:
        """What the output head reads of every guessing row (anchor, depth, width), and these rows' attention, anchor after anchor."""
        context, index = self.drafter.context(fused), torch.arange(len(fused), device=fused.device)
        keys = [Keys(step.key, step.value) for step in (one.layer.project(context, index, self.rope) for one in self.drafter.layers)]
        size = max(1, TOGETHER // self.drafter.rows(self.settings.depth))
        parts = [self._some(keys, some) for some in torch.split(anchors, size)]
        return torch.cat([output for output, _ in parts]), Masses.joined([masses for _, masses in parts], dim=2)

    def _some(self, keys: Sequence[Keys], anchors: Tensor) -> tuple[Tensor, Masses]:
        """The same of a few anchors."""
        rows, depth = self.drafter.rows(self.settings.depth), self.settings.depth
        stream = self.drafter.embed(self.ids[anchors], rows).flatten(0, 1)
        positions = (anchors[:, None] + torch.arange(rows, device=anchors.device)).flatten()
        guessing = torch.tensor([self.drafter.guessing(one) for one in range(1, depth + 1)], device=anchors.device)
        asked = (torch.arange(len(anchors), device=anchors.device)[:, None] * rows + guessing).flatten()
        parts = []
        for layer, context in zip(self.drafter.layers, keys, strict=True):
            flow = layer.enter(stream, rows)
            step = layer.layer.project(flow.inputs, positions, self.rope)
            sight, labels = self._sight(layer, anchors, rows), self.trajectory.labels.to(anchors.device)
            attended, masses = attend_blocks(step, context, sight, labels, layer.layer, depth)
            parts.append(masses.pick(asked))
            stream = layer.leave(flow.residual, attended, rows)
        output = self.drafter.finish(stream)[asked]
        return output.view(len(anchors), depth, -1), Masses.joined(parts, dim=0)

    def _sight(self, layer: BlockLayer, anchors: Tensor, rows: int) -> BlockSight:
        """The condition's window, counted from a query's own row, in place of the layer's own."""
        own, window = layer.layer, self.settings.window
        if window is not None:
            return BlockSight(anchors, rows, layer.causal, window, False, self.seen)
        return BlockSight(anchors, rows, layer.causal, own.window, own.from_anchor, self.seen)

    def kept_behind(self, every: Sequence[Queries], first: int) -> Tensor:
        """Drafts kept at the anchors behind the first so many, up to the text's end. (anchor,)"""
        anchors = torch.arange(self.trajectory.prompt_length + first, len(self.ids) - 1, device=self.ids.device)
        drafted = torch.stack([queries.guesses.drafted[first:] for queries in every], dim=1)
        return kept_inside(drafted, F.pad(self.ids, (0, len(every))), anchors, len(self.ids) - 1 - anchors)

    def guess(self, output: Tensor, masses: Masses, *, forced: bool) -> list[Queries]:
        """Every depth's queries over all anchors, a correction following the text or the guesses themselves; past the text's end stand
        guesses that nobody reads.
        """
        count, depth, _ = output.shape
        first, ids = self.trajectory.prompt_length, torch.cat([self.ids, self.ids.new_zeros(self.settings.depth)])
        places = torch.arange(count, device=ids.device) * depth
        correction, found, state = self.drafter.correction, list[Queries](), output.new_zeros(0)
        for place in range(depth):
            before = ids[first + place : first + place + count] if forced or not found else found[-1].guesses.drafted
            logits = self.drafter.logits(output[:, place])
            if correction is not None:
                state = state if found else correction.begin(count)
                logits, state = correction.step(output[:, place], logits, before, state)
            wanted = self.drafter.to_draft(ids[first + place + 1 : first + place + 1 + count])
            guesses = Guesses.of(logits, wanted, self.trajectory.temperature)
            guesses = replace(guesses, drafted=self.drafter.to_target(guesses.drafted))
            found.append(Queries(guesses, masses.pick(places + place)))
        return found
