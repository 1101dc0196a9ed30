"""What the header of a GGUF file says, in the words of a checkpoint in transformers' layout; its weights are transformers' to read.

Layout: ggml's docs/gguf.md, versions 2 and 3. Arrays, of which the largest are the tokenizer's, are read over.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from driftcli.errors import FormatError, SourceError

MAGIC, VERSIONS = b"GGUF", (2, 3)
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MOST = 1 << 24  # characters of a string, entries and dimensions that a header may name (chosen by us)
TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K",
    14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS",
    24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4",
}  # fmt: skip
PLAIN = ("F64", "F32", "F16", "BF16")
KEYS = {
    "embedding_length": "hidden_size", "block_count": "num_hidden_layers", "context_length": "max_position_embeddings",
    "feed_forward_length": "intermediate_size", "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads", "attention.key_length": "head_dim", "rope.freq_base": "rope_theta",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}  # fmt: skip
NAMES = (("blk.", "model.layers."), ("token_embd.", "model.embed_tokens."), ("output_norm.", "model.norm."), ("output.", "lm_head."))
SAID = {"gpt-oss": "gpt_oss", "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe"}  # architectures by another name than the model type
DRAFTERS = ("dflash", "eagle", "mtp", "medusa", "dspark")  # parts of the names by which llama.cpp knows drafters that are no whole model
Scalar = int | float | bool | str


@cache
def header(path: Path) -> tuple[Mapping[str, Scalar], Mapping[str, tuple[tuple[int, ...], str]]]:
    """Settings that are single values, and shape and type of each tensor by name; raises FormatError for what is no whole header."""
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC or _number(file, "I") not in VERSIONS:
                raise FormatError(f"{path}: no GGUF file of version 2 or 3, expected one; convert the model again")
            tensors, settings = _counted(file), _counted(file)
            told = {key: value for key, value in (_setting(file) for _ in range(settings)) if value is not None}
            return told, dict(_tensor(file) for _ in range(tensors))
    except (struct.error, ValueError, UnicodeDecodeError, OSError) as error:
        size = path.stat().st_size
        raise FormatError(f"{path}: not a whole GGUF file ({error}; {size} bytes on disk); fetch it again") from error


def gguf_config(path: Path) -> Mapping[str, Any]:
    """The settings under transformers' names, as far as a header tells them; raises SourceError for a drafter's head."""
    told, tensors = header(path)
    kind = str(told.get("general.architecture", "not named"))
    if any(word in kind.lower() for word in DRAFTERS):
        raise SourceError(
            f"{path}: a GGUF file of architecture {kind!r}, which llama.cpp alone drafts with; name the folder of the safetensors that it "
            "was converted from"
        )
    found = {name: told[f"{kind}.{key}"] for key, name in KEYS.items() if f"{kind}.{key}" in told}
    rows = next((shape[0] for name, (shape, _) in tensors.items() if name == "token_embd.weight"), None)
    return {
        "model_type": SAID.get(kind, kind),
        **found,
        **({} if rows is None else {"vocab_size": rows}),
        "quantization_config": {"quant_method": "gguf", "format": scheme(path)},
    }


def scheme(path: Path) -> str:
    """The types that the weights are stored in, those of most numbers first, without the small tensors left as floats."""
    counts: Counter[str] = Counter()
    for shape, kind in header(path)[1].values():
        counts[kind] += prod(shape) * (len(shape) > 1)
    return ", ".join(kind for kind, count in counts.most_common() if count)


def gguf_headers(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of each tensor, under names as transformers gives them to the parts that tell a family."""
    return {_renamed(name): told for name, told in header(path)[1].items()}


def _renamed(name: str) -> str:
    return next((new + name.removeprefix(old) for old, new in NAMES if name.startswith(old)), name)


def _number(file: BinaryIO, kind: str) -> int:
    return int(struct.unpack(f"<{kind}", file.read(struct.calcsize(kind)))[0])


def _counted(file: BinaryIO) -> int:
    if (count := _number(file, "Q")) > MOST:
        raise ValueError(f"{count} entries")
    return count


def _text(file: BinaryIO) -> str:
    return file.read(_counted(file)).decode("utf-8", errors="replace")


def _setting(file: BinaryIO) -> tuple[str, Scalar | None]:
    return _text(file), _value(file, _number(file, "I"))


def _value(file: BinaryIO, kind: int) -> Scalar | None:
    """A single value, None for an array, which is read over."""
    if kind == STRING:
        return _text(file)
    if kind == ARRAY:
        inner, count = _number(file, "I"), _counted(file)
        if inner in SCALARS:
            file.seek(count * struct.calcsize(SCALARS[inner]), 1)
        else:
            for _ in range(count):
                _value(file, inner)
        return None
    if kind not in SCALARS:
        raise ValueError(f"a value of type {kind}")
    value: Scalar = struct.unpack(f"<{SCALARS[kind]}", file.read(struct.calcsize(SCALARS[kind])))[0]
    return value


def _tensor(file: BinaryIO) -> tuple[str, tuple[tuple[int, ...], str]]:
    """Name, shape with the slowest axis first, and type."""
    name, axes = _text(file), _number(file, "I")
    if axes > 8:
        raise ValueError(f"a tensor of {axes} axes")
    shape = tuple(reversed([_number(file, "Q") for _ in range(axes)]))
    kind = _number(file, "I")
    _number(file, "Q")
    return name, (shape, TYPES.get(kind, f"type {kind}"))
