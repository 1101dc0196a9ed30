"""Weights of 8-bit floats in blocks, each with a scale, as DeepSeek-V3 stores them: multiplied out, partial last blocks too.

transformers leaves the scales of MTP weights behind, and takes the size of a block from the number of scales, which is wrong for a last
block that is not whole.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from driftcli.errors import FormatError
from driftcli.families.quantisation import SCALE
from driftcli.sources.files import Json

BLOCK = (128, 128)  # of DeepSeek-V3, where the config names no other


def unscaled(where: str, tensors: Mapping[str, Tensor], config: Mapping[str, Json]) -> dict[str, Tensor]:
    """The tensors without their scales, those that have one multiplied out in float32; raises FormatError for scales of another size."""
    block = _block(config)
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith(SCALE)}
    for name, tensor in found.items():
        if (scale := tensors.get(name + SCALE)) is not None:
            found[name] = _multiplied(where, name, tensor, scale, block)
    return found


def _block(config: Mapping[str, Json]) -> tuple[int, int]:
    said = config.get("quantization_config")
    size = said.get("weight_block_size") if isinstance(said, dict) else None
    numbers = [n for n in size if isinstance(n, int) and n > 0] if isinstance(size, list) else []
    return (numbers[0], numbers[1]) if len(numbers) == 2 else BLOCK


def _multiplied(where: str, name: str, tensor: Tensor, scale: Tensor, block: tuple[int, int]) -> Tensor:
    """One weight (outputs, inputs) by its scales, one a block, one an output row, or one for all."""
    wide = tensor.float()
    if scale.numel() == 1:
        return wide * scale.float()
    expected = tuple(-(-size // part) for size, part in zip(tensor.shape, block, strict=True)) if tensor.ndim == 2 else ()
    if tensor.ndim == 2 and tuple(scale.shape) == (len(tensor), 1):
        return wide * scale.float()
    if tuple(scale.shape) != expected:
        raise FormatError(
            f"{where}: {name + SCALE} has shape {tuple(scale.shape)}, expected {expected} for blocks of {block[0]} x {block[1]}; correct "
            "weight_block_size in the config or fetch the file again"
        )
    rows, columns = tensor.shape
    every = scale.float().repeat_interleave(block[0], 0)[:rows].repeat_interleave(block[1], 1)[:, :columns]
    return torch.mul(wide, every)
