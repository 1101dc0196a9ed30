"""Matrices packed number by number as quantised checkpoints hold them, each with the floats that it stands for."""

from __future__ import annotations

import torch
from torch import Tensor

Packed = tuple[dict[str, Tensor], Tensor]  # stored parts by the ends of their names, and the matrix (outputs, inputs)
AWQ_PLACE = (0, 4, 1, 5, 2, 6, 3, 7)
FLOAT4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def word(numbers: list[int], bits: int) -> int:
    """Numbers in one word of 32 bits, the first lowest, as a signed number."""
    found = sum(number << (bits * place) for place, number in enumerate(numbers))
    return found - 2**32 if found >= 2**31 else found


def _drawn(rows: int, columns: int, bits: int, group: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers (output, input), zero points and scales (output, group)."""
    random = torch.Generator().manual_seed(seed)
    groups = -(-columns // group)
    numbers = torch.randint(0, 2**bits, (rows, columns), generator=random)
    zeros = torch.randint(1, 2**bits, (rows, groups), generator=random)
    return numbers, zeros, torch.rand(rows, groups, generator=random) * 0.1 + 0.01


def _stands_for(numbers: Tensor, zeros: Tensor, scales: Tensor, groups: list[int]) -> Tensor:
    whole = torch.zeros(numbers.shape)
    for row in range(numbers.shape[0]):
        for column, group in enumerate(groups):
            whole[row, column] = (float(numbers[row, column]) - float(zeros[row, group])) * scales[row, group]
    return whole


def awq(rows: int, columns: int, group: int = 16, seed: int = 0) -> Packed:
    """AWQ: words along the outputs."""
    numbers, zeros, scales = _drawn(rows, columns, 4, group, seed)

    def words(table: Tensor) -> Tensor:
        """(output, n) -> (n, word)."""
        lines = []
        for column in table.T.tolist():
            line = []
            for start in range(0, rows, 8):
                nibbles = [0] * 8
                for place, number in zip(AWQ_PLACE, column[start : start + 8], strict=True):
                    nibbles[place] = number
                line.append(word(nibbles, 4))
            lines.append(line)
        return torch.tensor(lines, dtype=torch.int32)

    parts = {"qweight": words(numbers), "qzeros": words(zeros), "scales": scales.T.contiguous()}
    return parts, _stands_for(numbers, zeros, scales, [column // group for column in range(columns)])


def gptq(rows: int, columns: int, bits: int = 4, group: int = 16, *, second: bool = False, shuffled: bool = False, seed: int = 0) -> Packed:
    """GPTQ: words along the inputs; second: of its second version; shuffled: inputs in groups of no order."""
    numbers, zeros, scales = _drawn(rows, columns, bits, group, seed)
    each, groups = 32 // bits, [column // group for column in range(columns)]
    if shuffled:
        order = torch.randperm(columns, generator=torch.Generator().manual_seed(seed)).tolist()
        groups = [groups[place] for place in order]
    down = [[word(line[start : start + each], bits) for line in numbers.tolist()] for start in range(0, columns, each)]
    kept = zeros - (0 if second else 1)
    across = [[word(line[start : start + each], bits) for start in range(0, rows, each)] for line in kept.T.tolist()]
    parts = {
        "qweight": torch.tensor(down, dtype=torch.int32),
        "qzeros": torch.tensor(across, dtype=torch.int32),
        "scales": scales.T.contiguous(),
        "g_idx": torch.tensor(groups, dtype=torch.int32),
    }
    return parts, _stands_for(numbers, zeros, scales, groups)


def pack_quantized(rows: int, columns: int, bits: int = 4, group: int = 16, seed: int = 0) -> Packed:
    """compressed-tensors, symmetric: words along the inputs, the last one perhaps not full."""
    numbers, zeros, scales = _drawn(rows, columns, bits, group, seed)
    each, zeros = 32 // bits, torch.full_like(zeros, 2 ** (bits - 1))
    lines = [[word(line[start : start + each], bits) for start in range(0, columns, each)] for line in numbers.tolist()]
    parts = {
        "weight_packed": torch.tensor(lines, dtype=torch.int32),
        "weight_scale": scales,
        "weight_shape": torch.tensor([rows, columns]),
    }
    return parts, _stands_for(numbers, zeros, scales, [column // group for column in range(columns)])


def mxfp4(rows: int, columns: int, seed: int = 0, *, exponents: bool = False) -> Packed:
    """Floats of 4 bits, two to a byte, with a power of two for every 32 inputs; exponents: these stored as floats of 8 bits."""
    random = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 16, (rows, columns), generator=random).tolist()
    powers = torch.randint(120, 130, (rows, columns // 32), generator=random)
    whole = torch.zeros(rows, columns)
    for row, line in enumerate(codes):
        for column, code in enumerate(line):
            value = FLOAT4[code & 7] * (-1 if code & 8 else 1)
            whole[row, column] = value * 2.0 ** (int(powers[row, column // 32]) - 127)
    stored = [[line[place] + 16 * line[place + 1] for place in range(0, columns, 2)] for line in codes]
    scale = powers.to(torch.uint8)
    parts = {
        "weight": torch.tensor(stored, dtype=torch.uint8).view(torch.int8),
        "scale": scale.view(torch.float8_e8m0fnu) if exponents else scale,
    }
    return parts, whole


def float8(rows: int, columns: int, block: int | None, name: str = "weight_scale_inv", seed: int = 0) -> Packed:
    """Floats of 8 bits with a scale a block, the last of which may be cut off, or one an output, or of all where `block` is 0."""
    random = torch.Generator().manual_seed(seed)
    numbers = torch.randn(rows, columns, generator=random).to(torch.float8_e4m3fn)
    high, wide = (block, block) if block else (rows, columns) if block == 0 else (1, columns)
    scales = torch.rand(-(-rows // high), -(-columns // wide), generator=random) + 0.1
    whole = torch.zeros(rows, columns)
    for row in range(rows):
        for column in range(columns):
            whole[row, column] = float(numbers[row, column]) * scales[row // high, column // wide]
    return {"weight": numbers, name: scales.reshape(()) if block == 0 else scales}, whole


def int8(rows: int, columns: int, seed: int = 0) -> Packed:
    """Whole numbers of 8 bits with a scale an output."""
    random = torch.Generator().manual_seed(seed)
    numbers, scales = torch.randint(-128, 128, (rows, columns), generator=random), torch.rand(rows, 1, generator=random) * 0.01
    return {"weight": numbers.to(torch.int8), "weight_scale": scales}, numbers.float() * scales
