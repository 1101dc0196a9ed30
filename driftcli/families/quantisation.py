"""How a checkpoint's weights are quantised, by what its config says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from driftcli.domain import Sourced
from driftcli.errors import FormatError
from driftcli.sources.files import Json, Source, reason

FLOATS = ("F16", "BF16", "F32", "F64")  # as safetensors spells what is read as it stands
SCALE = "_scale_inv"  # behind the name of a weight of 8-bit floats: the tensor of its scales
NVIDIA = "hf_quant_config.json"  # beside the config, where ModelOpt writes it


def quantisation(source: Source, config: Mapping[str, Json]) -> Sourced | None:
    """The scheme in words, such as `modelopt NVFP4` or `awq, 4 bits`, and where it is said; None for a checkpoint that names none."""
    found = config.get("quantization_config")
    if isinstance(found, dict) and found:
        return Sourced(_scheme(found), "config:quantization_config" if source.gguf is None else "tensor")
    path = source.folder / NVIDIA
    if source.gguf is not None or not path.is_file():
        return None
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise FormatError(f"{path}: not readable as JSON ({reason(error)}), expected a quantisation; fetch the file again") from error
    inner = written.get("quantization") if isinstance(written, dict) else None
    return Sourced(_scheme({"quant_method": "modelopt", **(inner if isinstance(inner, dict) else {})}), f"config:{NVIDIA}")


def _scheme(config: Mapping[str, Json]) -> str:
    bits = config.get("bits", config.get("w_bit"))
    method = next((value for key in ("quant_method", "producer") if isinstance(value := config.get(key), str)), "of no named method")
    kind = next((config[key] for key in ("quant_algo", "fmt", "format") if isinstance(config.get(key), str)), None)
    return f"{method}{f' {kind}' if kind else ''}{f', {bits} bits' if isinstance(bits, int) else ''}"
