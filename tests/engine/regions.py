"""Region shares of the queries of one text, by one sink and one cut for all."""

from __future__ import annotations

import torch
from torch import Tensor

from driftcli.engine.attention import Masses
from driftcli.engine.rows import Sinks, region_shares


def shares_of(masses: Masses, sink: int | None, labels: Tensor, ahead: int | None) -> dict[str, Tensor]:
    """Share of each region, (layer, head, query) each; labels: (row,)."""
    count = masses.entropy.shape[-1]
    row, label = (-1, 0) if sink is None else (sink, int(labels[sink]))
    sinks = Sinks(torch.full((count,), row), torch.full((count,), label))
    return region_shares(masses, sinks, None if ahead is None else torch.full((count,), ahead))
