"""MiMo-V2 heads that store queries, keys and values in one matrix: a Pro's one below the other, an 8-bit one cut into parts beforehand.

Each part of the latter holds its share of all three, and rows of scales of its own, the last of which may stand for a block that is cut
off; there are `num_key_value_heads` parts (vLLM 0.33: mimo_v2_mtp.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from driftcli.errors import FormatError
from driftcli.families.mtp.shapes import FUSED, PARTS, Cut
from driftcli.families.quantisation import SCALE
from driftcli.families.unscaling import unscaled
from driftcli.sources.files import Json

NAME = f"{FUSED}.weight"


def apart(where: str, tensors: Mapping[str, Tensor], cut: Cut, config: Mapping[str, Json]) -> dict[str, Tensor]:
    """The tensors of a module with queries, keys and values in matrices of their own, multiplied out.

    tensors: by part, the fused matrix (rows of all parts, width) among them, perhaps with its scales (blocks, blocks of a row); raises
    FormatError for scales of another size.
    """
    shares = [torch.split(share, list(cut.rows)) for share in _wide(where, tensors, cut, config)]
    rest = {name: tensor for name, tensor in tensors.items() if name not in (NAME, NAME + SCALE)}
    return {**rest, **{f"{part}.weight": torch.cat(rows) for part, rows in zip(PARTS, zip(*shares, strict=True), strict=True)}}


def _wide(where: str, tensors: Mapping[str, Tensor], cut: Cut, config: Mapping[str, Json]) -> list[Tensor]:
    """Each part of the fused matrix, by its own scales."""
    shares = list(tensors[NAME].chunk(cut.parts))
    if (scales := tensors.get(NAME + SCALE)) is None:
        return shares
    if len(scales) % cut.parts:
        raise FormatError(
            f"{where}: {NAME + SCALE} has {len(scales)} rows, expected as many for each of {cut.parts} parts; fetch the file again"
        )
    both = zip(shares, scales.chunk(cut.parts), strict=True)
    return [unscaled(where, {NAME: share, NAME + SCALE: own}, config)[NAME] for share, own in both]
