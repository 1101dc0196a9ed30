"""A block drafter as a server steps it: the keys of verified positions are kept, those of a block are dropped with its round.

The whole block is guessed by a round's first step, and the steps behind it hand on what is there, corrected where the drafter corrects. A
block has as many rows as the longest draft asks for: of shorter ones the time is a little less.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from driftcli.engine.attention import by_sequence, sdpa
from driftcli.engine.block_attention import BlockSight
from driftcli.families.block.drafter import Block, BlockLayer
from driftcli.families.self_feeding import Projected


class ServedBlock:
    """A block drafter of one batch; as `ServedDrafter`. rows: the most that it will hold, drafts: tokens of a round."""

    token_offset = 1

    def __init__(self, drafter: Block, rows: int, drafts: int) -> None:
        self.boundaries = drafter.boundaries
        self._drafter, self._drafts, self._rows = drafter, drafts, 0
        self._rope = drafter.rope(rows + drafter.rows(drafts))
        self._cache: list[tuple[Tensor, Tensor]] = []  # a layer's keys and values, (batch, key head, row, size) each
        self._place, self._scores, self._outputs = 0, torch.empty(0), torch.empty(0)
        self._state = torch.empty(0)

    @torch.inference_mode()
    def read(self, tokens: Tensor, streams: Mapping[int, Tensor]) -> Tensor:
        """As the contract; the last token is the anchor, whose own row is of the block."""
        batch, count = tokens.shape
        fused = self._drafter.fuse({boundary: stream.flatten(0, 1) for boundary, stream in streams.items()})
        self._keep(self._drafter.context(fused), batch, count)
        anchors = tokens[:, -1].to(fused.device)
        self._outputs = self._through(anchors)
        self._scores = self._drafter.logits(self._outputs)
        self._place = 0
        if self._drafter.correction is not None:
            self._state = self._drafter.correction.begin(batch)
        return self._guess(anchors)

    @torch.inference_mode()
    def follow(self, guesses: Tensor) -> Tensor:
        """As the contract; behind the last guess of the block that one stands for any further."""
        self._place = min(self._place + 1, self._drafts - 1)
        return self._guess(guesses)

    def crop(self, rows: int) -> None:
        """As the contract."""
        self._rows = rows
        self._cache = [(keys[:, :, :rows], values[:, :, :rows]) for keys, values in self._cache]

    def repeat(self, size: int) -> None:
        """As the contract."""
        self._cache = [(keys.repeat_interleave(size, dim=0), values.repeat_interleave(size, dim=0)) for keys, values in self._cache]

    def _keep(self, context: Tensor, batch: int, count: int) -> None:
        """Every layer's keys and values of newly verified rows, (batch * n, width), behind those that are there."""
        index, kept = torch.arange(self._rows, self._rows + count, device=context.device).repeat(batch), []
        for number, one in enumerate(self._drafter.layers):
            key, value = _pair(one.layer.project(context, index, self._rope), batch)
            if self._cache:
                key, value = (torch.cat([old, new], dim=2) for old, new in zip(self._cache[number], (key, value), strict=True))
            kept.append((key, value))
        self._cache, self._rows = kept, self._rows + count

    def _through(self, anchors: Tensor) -> Tensor:
        """What the output head reads of every guess, (batch, draft, width)."""
        drafter, batch = self._drafter, len(anchors)
        rows = drafter.rows(self._drafts)
        stream = drafter.embed(anchors, rows).flatten(0, 1)
        positions = (self._rows + torch.arange(rows, device=stream.device)).repeat(batch)
        for number, one in enumerate(drafter.layers):
            flow = one.enter(stream, rows)
            step = one.layer.project(flow.inputs, positions, self._rope)
            stream = one.leave(flow.residual, self._attend(number, one, step, batch, rows), rows)
        first = drafter.guessing(1)
        return drafter.finish(stream).view(batch, rows, -1)[:, first : first + self._drafts]

    def _attend(self, number: int, one: BlockLayer, step: Projected, batch: int, rows: int) -> Tensor:
        query, (key, value) = by_sequence(step.query, batch), _pair(step, batch)
        keys, values = (torch.cat([old, new], dim=2) for old, new in zip(self._cache[number], (key, value), strict=True))
        anchor = torch.tensor([self._rows], device=query.device)
        sight = BlockSight(anchor, rows, one.causal, one.layer.window, one.layer.from_anchor, None)
        plain = not one.causal and one.layer.window is None
        seen = None if plain else ~sight.hidden(self._rows)[0]
        return sdpa(query, keys, values, seen, one.layer.scale, one.layer.sinks).transpose(1, 2).flatten(2).flatten(0, 1)

    def _guess(self, before: Tensor) -> Tensor:
        scores, correction = self._scores[:, self._place], self._drafter.correction
        if correction is not None:
            scores, self._state = correction.step(self._outputs[:, self._place], scores, before.to(scores.device), self._state)
        return self._drafter.to_target(scores.argmax(-1))


def _pair(step: Projected, batch: int) -> tuple[Tensor, Tensor]:
    return by_sequence(step.key, batch), by_sequence(step.value, batch)
