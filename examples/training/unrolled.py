"""The loss of each unrolled step of a head that feeds on its own state."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

from driftcli.training.losses import Loss, TargetHead
from driftcli.training.sampling import ALL_ROWS, Among, Drawn
from driftcli.training.streams import Batch
from training.layer import Layer


def unrolled_losses(
    head: Layer, embed: Tensor, target: TargetHead, batch: Batch, unroll: int, drawn: Drawn = ALL_ROWS, among: Among | None = None
) -> Iterator[Loss]:
    """Loss of each unrolled step against the target's distribution, on the rows whose wanted token is part of a reply.

    Row i of step s holds token x[i+1+s] at position i+s and predicts x[i+2+s], for which the target's state is that of position i+1+s.
    """
    rows = batch.ids.shape[1] - 1 - unroll
    wanted_at = drawn.of(batch.replied.roll(-1, dims=1), unroll)
    place = wanted_at.flatten().cumsum(0).view_as(batch.ids) - 1
    wanted = target.probabilities(batch.tops[wanted_at], among)
    keys: list[Tensor] = []
    values: list[Tensor] = []
    state = head.first(batch, rows)
    for step in range(unroll):
        out, state = head.step(F.embedding(batch.ids[:, 1 + step : 1 + step + rows], embed), state, step, keys, values)
        positions = slice(1 + step, 1 + step + rows)
        counted = wanted_at[:, positions]
        guessed, truth = head.logits(out[counted], among).float(), wanted[place[:, positions][counted]]
        agreement = (guessed.argmax(-1) == truth.argmax(-1)).float().mean()
        yield Loss(F.cross_entropy(guessed, truth), agreement.detach(), len(guessed))
