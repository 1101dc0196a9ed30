"""Quantised copies of a target on disk: rounded weights that are stored as floats, and int8 in the layout of compressed-tensors.

Symmetric, one scale an output channel; norms, embeddings and the output head stay as they are, as in the recipes that people serve.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

LINEAR = re.compile(r"\.layers\.\d+\..*_proj\.weight$")  # what is quantised of a model


def rounded(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Whole numbers of so many bits and the scale of each output channel; (output, input) -> the same, and (output, 1)."""
    most = 2 ** (bits - 1) - 1
    scale = weight.float().abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / most
    return (weight.float() / scale).round().clamp(-most, most), scale


def write_rounded(source: Path, folder: Path, bits: int) -> Path:
    """A copy whose linear weights are rounded to so many bits and stored as floats again, so that transformers runs it as any other."""
    shutil.copytree(source, folder)
    tensors = load_file(source / "model.safetensors")
    for name, weight in tensors.items():
        if LINEAR.search(name):
            whole, scale = rounded(weight, bits)
            tensors[name] = (whole * scale).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_int8(source: Path, folder: Path) -> Path:
    """A copy in compressed-tensors' int8 layout, W8A8: weights by output channel, activations by token while it runs."""
    shutil.copytree(source, folder)
    tensors: dict[str, Tensor] = {}
    for name, weight in load_file(source / "model.safetensors").items():
        if LINEAR.search(name):
            whole, scale = rounded(weight, 8)
            tensors |= {name: whole.to(torch.int8).contiguous(), f"{name}_scale": scale.to(weight.dtype).contiguous()}
        else:
            tensors[name] = weight
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": INT8}, indent=1))
    return folder


INT8 = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False},
            "input_activations": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True},
        }
    },
}
