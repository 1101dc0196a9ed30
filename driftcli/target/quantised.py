"""Quantised language models in transformers: what they need beside it, what it would get wrong, and as what they compute."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import torch
from transformers import PreTrainedModel

from driftcli.errors import FormatError, SourceError
from driftcli.sources.checkpoint import Stored
from driftcli.sources.files import Json
from driftcli.target.facts import LAYER

NEEDED = {  # by method: packages that transformers 5.24 asks for, by the names they are imported under
    "compressed-tensors": ("compressed_tensors",),
    "gguf": ("gguf",),
    "awq": ("gptqmodel",),
    "gptq": ("optimum", "gptqmodel"),
    "bitsandbytes": ("bitsandbytes",),
}  # each method's extra in pyproject.toml has its name
NATIVE = (8, 9)  # compute capability from which transformers leaves FP8 blocks as they are
SCALE = "_scale_inv"
PACKED = (torch.int8, torch.uint8, torch.int32)  # dtypes of parameters that hold quantised numbers, beside floats of 8 bits


def method_of(config: Mapping[str, Json]) -> str | None:
    """The method by which a config says that weights are quantised, None where it names none."""
    said = config.get("quantization_config")
    return str(said["quant_method"]) if isinstance(said, dict) and "quant_method" in said else None


def require_packages(where: str, config: Mapping[str, Json]) -> None:
    """Raise SourceError, with the command, where the packages of a quantisation are not installed."""
    method = method_of(config) or ""
    missing = [name for name in NEEDED.get(method, ()) if find_spec(name) is None]
    if missing:
        engine = "" if method == "gguf" else ", or let vLLM run the target (--engine vllm)"
        raise SourceError(
            f"{where}: quantised as {method}, for which transformers needs the package {missing[0].replace('_', '-')}, expected it "
            f"installed; run `pip install 'driftcli[{method}]'`{engine}"
        )


def require_whole_blocks(
    where: str, config: Mapping[str, Json], stored: Mapping[str, Stored], device: torch.device, layers: int | None
) -> None:
    """Raise FormatError for FP8 blocks that are cut off at a matrix's end, where transformers multiplies them out.

    It takes a block's size from the number of scales (5.24: finegrained_fp8.py), which a last block that is not whole makes another one:
    it fails, or goes on with wrong numbers. layers: of the model; what lies behind them is not loaded.
    """
    said = config.get("quantization_config")
    if method_of(config) != "fp8" or not isinstance(said, dict) or _is_native(device):
        return
    size = said.get("weight_block_size")
    block = [n for n in size if isinstance(n, int)] if isinstance(size, list) else []
    if len(block) != 2:
        return
    for name, one in stored.items():
        scales, found = stored.get(name + SCALE), LAYER.search(name)
        if scales is None or len(one.shape) != 2 or (found and layers is not None and int(found[1]) >= layers) or name.startswith("mtp."):
            continue
        for axis, rows, count, each in zip(("rows", "columns"), one.shape, scales.shape, block, strict=True):
            if count > 1 and rows % each:
                taken = f"takes blocks of {rows // count}" if rows % count == 0 else "fails"
                raise FormatError(
                    f"{where}: {name} has {rows} {axis} in FP8 blocks of {each}, the last of which is cut off, where transformers "
                    f"{taken}; expected whole blocks, so let vLLM run the target (--engine vllm), or use a GPU of compute capability "
                    f"{NATIVE[0]}.{NATIVE[1]} or higher"
                )


def _is_native(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= NATIVE


def computed_as(model: PreTrainedModel, config: Mapping[str, Json]) -> str:
    """As what a quantised model's weights are computed with, in words; compressed-tensors unpacks its own on the first pass."""
    dtypes = {tensor.dtype for tensor in model.parameters()}
    dtypes |= {tensor.dtype for name, tensor in model.named_buffers() if "weight" in name.rpartition(".")[2]}
    stored = any(dtype in PACKED or (dtype.is_floating_point and dtype.itemsize == 1) for dtype in dtypes)
    if stored and method_of(config) != "compressed-tensors":
        return "as they are stored"
    dtype = str(model.get_input_embeddings().weight.dtype).removeprefix("torch.")
    return f"dequantised to {dtype}{', activations quantised on the way' if _quantises_activations(config) else ''}"


def _quantises_activations(config: Mapping[str, Json]) -> bool:
    """Whether a config of compressed-tensors asks for it."""
    said = config.get("quantization_config")
    groups = said.get("config_groups") if isinstance(said, dict) else None
    return any(isinstance(one, dict) and one.get("input_activations") for one in (groups.values() if isinstance(groups, dict) else ()))
