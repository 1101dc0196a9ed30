"""Matrices stored in float8 with a scale for every square block, the last of which may be cut off."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

BLOCK, LARGEST = 16, 448.0
CONFIG = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]}
SCALE = "_scale_inv"


def spread(scales: Tensor, shape: torch.Size) -> Tensor:
    """The scale of every element."""
    return scales.repeat_interleave(BLOCK, 0)[: shape[0]].repeat_interleave(BLOCK, 1)[:, : shape[1]]


def stored(name: str, matrix: Tensor) -> dict[str, Tensor]:
    """A matrix and its scales."""
    rows, columns = (-(-size // BLOCK) for size in matrix.shape)
    padded = torch.zeros(rows * BLOCK, columns * BLOCK)
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    scales = padded.view(rows, BLOCK, columns, BLOCK).abs().amax((1, 3)) / LARGEST
    return {name: (matrix / spread(scales, matrix.shape)).to(torch.float8_e4m3fn), name + SCALE: scales}


def is_linear(name: str) -> bool:
    """Whether a tensor is one of those that are published in float8: the layers' matrices, without the router's and the projection's."""
    return name.endswith(("_proj.weight", "_proj_with_mqa.weight")) and not name.endswith("eh_proj.weight")


def read_whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in float32, and no scales."""
    whole = {name: tensor for name, tensor in tensors.items() if not name.endswith(SCALE)}
    for name, tensor in whole.items():
        if name + SCALE in tensors:
            whole[name] = tensor.float() * spread(tensors[name + SCALE], tensor.shape)
    return whole


def fused(name: str, parts: list[Tensor], ranks: int, *, scaled: bool) -> dict[str, Tensor]:
    """Queries, keys and values in one matrix: each rank's rows of all three, and its own scales where there are any."""
    shares = [torch.cat([part.chunk(ranks)[rank] for part in parts]) for rank in range(ranks)]
    if not scaled:
        return {name: torch.cat(shares)}
    each = [stored(name, share) for share in shares]
    return {key: torch.cat([one[key].view(torch.uint8) if key == name else one[key] for one in each]) for key in each[0]}


def unfused(matrix: Tensor, scales: Tensor | None, ranks: int, rows: list[int]) -> list[Tensor]:
    """Queries, keys and values again, row by row: of each rank so many rows of each."""
    found: list[list[Tensor]] = [[], [], []]
    blocks = 0 if scales is None else len(scales) // ranks
    for rank in range(ranks):
        for row in range(sum(rows)):
            line = matrix[rank * sum(rows) + row].float()
            if scales is not None:
                line = line * scales[rank * blocks + row // BLOCK].repeat_interleave(BLOCK)[: len(line)]
            found[0 if row < rows[0] else 1 if row < rows[0] + rows[1] else 2].append(line)
    return [torch.stack(lines) for lines in found]
