"""Quantised matrices of drafters as the floats that they stand for: numbers of a few bits, unpacked by the layout of their words, shifted
and scaled by group.

Layouts: OCP's MX formats; compressed-tensors 0.20 (pack_quantized); AutoAWQ and AutoGPTQ, as vLLM 0.33 reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from driftcli.errors import FormatError
from driftcli.families.quantisation import SCALE
from driftcli.families.unscaling import unscaled
from driftcli.sources.checkpoint import Checkpoint, Packed
from driftcli.sources.tensors import read_some

FLOAT4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # E2M1 by its three lower bits, the fourth being the sign
AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # the nibble of a word that holds each of its eight columns
EXPONENT_BIAS = 127  # of a scale that is a power of two
Parts = Mapping[str, Tensor]


def read_whole(checkpoint: Checkpoint, wanted: Iterable[str]) -> dict[str, Tensor]:
    """Tensors of a checkpoint by name, quantised ones as float32; raises as `read_some`, and FormatError for parts of other sizes."""
    names, packed = set(wanted), checkpoint.packed
    parts = {stored for name in names & packed.keys() for stored in packed[name].parts.values()}
    stored = read_some(checkpoint.source, (names - packed.keys()) | parts)
    plain = {name: stored[name] for name in names - packed.keys()}
    return plain | {name: _dequantised(checkpoint, name, stored) for name in names & packed.keys()}


def _dequantised(checkpoint: Checkpoint, name: str, stored: Parts) -> Tensor:
    """The matrix (outputs, inputs) that stored parts stand for."""
    packed, where = checkpoint.packed[name], checkpoint.source.name
    parts = {role: stored[part] for role, part in packed.parts.items()}
    if packed.scheme == "float8":
        scale = parts["scale"]
        by_row = scale[:, None] if scale.ndim == 1 and len(scale) == packed.shape[0] else scale
        return unscaled(where, {name: parts["weight"], name + SCALE: by_row}, checkpoint.config)[name]
    return READ[packed.scheme](packed, parts)


def int8(packed: Packed, parts: Parts) -> Tensor:
    """Scales and zero points of all, of each output, or of groups of inputs."""
    zero = _by_input(parts["zero"].float(), packed.shape[1]) if "zero" in parts else torch.zeros(())
    return torch.mul(parts["weight"].float() - zero, _by_input(parts["scale"].float(), packed.shape[1]))


def mxfp4(packed: Packed, parts: Parts) -> Tensor:
    """Two numbers to a byte, the lower half first; a scale is a power of two for 32 inputs."""
    codes = fields(parts["weight"].view(torch.uint8), 4, 8)
    powers = parts["scale"].view(torch.uint8).float() - EXPONENT_BIAS
    return torch.tensor([*FLOAT4, *(-value for value in FLOAT4)])[codes] * _by_input(torch.exp2(powers), packed.shape[1])


def pack_quantized(packed: Packed, parts: Parts) -> Tensor:
    """compressed-tensors: words along a row hold numbers raised by half their range; zero points lie in words along the outputs."""
    rows, columns = packed.shape
    numbers, scale = fields(parts["weight"], packed.bits)[:, :columns].float(), parts["scale"].float()
    zero = torch.full_like(scale, 2 ** (packed.bits - 1))
    if "zero" in parts:
        zero = fields(parts["zero"].T, packed.bits).T[:rows].float()
    return _grouped(numbers, zero, scale, parts.get("groups"))


def awq(packed: Packed, parts: Parts) -> Tensor:
    """Words along the outputs, whose columns lie in an order of their own."""
    numbers, zero = (_in_order(fields(parts[role], packed.bits)).T.float() for role in ("weight", "zero"))
    return _grouped(numbers, zero, parts["scale"].float().T, None)


def gptq(packed: Packed, parts: Parts) -> Tensor:
    """Words along the inputs; zero points are stored one less, but in the second version of the format."""
    numbers, zero = fields(parts["weight"].T, packed.bits), fields(parts["zero"], packed.bits).T + packed.less
    return _grouped(numbers.float(), zero.float(), parts["scale"].float().T, parts.get("groups"))


READ: Mapping[str, Callable[[Packed, Parts], Tensor]] = {
    "int8": int8, "mxfp4": mxfp4, "pack-quantized": pack_quantized, "awq": awq, "gptq": gptq,
}  # fmt: skip


def fields(words: Tensor, bits: int, width: int = 32) -> Tensor:
    """The numbers of so many bits in each word, the lowest first; (row, word) -> (row, word * numbers)."""
    shifts = torch.arange(0, width, bits)
    return torch.flatten((words[..., None].long() >> shifts) & (2**bits - 1), 1)


def _in_order(columns: Tensor) -> Tensor:
    """AWQ's columns as they follow one another; (row, column) twice."""
    return columns.view(len(columns), -1, len(AWQ_ORDER))[..., list(AWQ_ORDER)].flatten(1)


def _grouped(numbers: Tensor, zero: Tensor, scale: Tensor, groups: Tensor | None) -> Tensor:
    """Numbers (output, input) less the zero point and times the scale of their group, (output, group) each; groups: of each input."""
    if groups is None or bool((groups < 0).any()):  # compressed-tensors marks groups that follow one another by -1
        inputs = numbers.shape[1]
        return (numbers - _by_input(zero, inputs)) * _by_input(scale, inputs)
    return (numbers - zero[:, groups.long()]) * scale[:, groups.long()]


def _by_input(told: Tensor, inputs: int) -> Tensor:
    """What is told of groups of inputs, of each input; one of all, or of each output alone, as it is."""
    if told.ndim < 2 or told.shape[1] in (1, inputs):
        return told
    if inputs % told.shape[1]:
        raise FormatError(f"{told.shape[1]} groups of {inputs} inputs, expected groups of one size; fetch the file again")
    return told.repeat_interleave(inputs // told.shape[1], dim=1)
