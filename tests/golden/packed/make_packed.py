"""Writes golden matrices as compressed-tensors packs and unpacks them.

Run once, from the repository root, with compressed-tensors 0.20:

    PYTHONPATH=. python -m tests.golden.packed.make_packed

Each file holds the stored parts of one matrix under the names that a checkpoint has, and as `whole` what the package makes of them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize
from safetensors.torch import save_file

HERE = Path(__file__).parent
ROWS, COLUMNS, GROUP = 24, 64, 16


def main() -> None:
    torch.manual_seed(0)
    for bits in (4, 8):
        half = 2 ** (bits - 1)
        for name, group, symmetric in (("group", GROUP, True), ("channel", COLUMNS, True), ("shifted", GROUP, False)):
            numbers = torch.randint(-half, half, (ROWS, COLUMNS), dtype=torch.int8)
            scale = torch.rand(ROWS, COLUMNS // group) + 0.1
            zero = torch.zeros_like(scale, dtype=torch.int8) if symmetric else torch.randint(-half, half, scale.shape, dtype=torch.int8)
            strategy = {"strategy": "channel"} if group == COLUMNS else {"strategy": "group", "group_size": group}
            args = QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric, **strategy)
            parts = {
                "fc.weight_packed": pack_to_int32(numbers, bits),
                "fc.weight_scale": scale,
                "fc.weight_shape": torch.tensor([ROWS, COLUMNS]),
                "whole": dequantize(numbers, scale, zero, args=args, dtype=torch.float32),
            }
            if not symmetric:
                parts["fc.weight_zero_point"] = pack_to_int32(zero, bits, packed_dim=0)
            save_file({key: part.contiguous() for key, part in parts.items()}, HERE / f"{name}-{bits}.safetensors")


if __name__ == "__main__":
    main()
