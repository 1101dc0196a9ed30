"""A head's RoPE settings, read through transformers from either spelling and tried before they are believed.

What is left out takes `LlamaConfig`'s default, as in vLLM, never the target's value. A rotation of only part of a head is refused: no
EAGLE-3 head is trained so, and transformers' own Llama passes over the key without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from driftcli.errors import FormatError
from driftcli.loading.files import Json, reason
from driftcli.loading.record import Record

SPELLINGS = ("rope_parameters", "rope_theta", "rope_scaling")
UNUSABLE = (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError, StrictDataclassError)
LLAMA = "transformers LlamaConfig, as vLLM loads it"


def rope_config(record: Record, head_dim: int, width: int, heads: int) -> LlamaConfig:
    """The settings that `LlamaRotaryEmbedding` turns into tables, from `rope_parameters`, or `rope_theta` with `rope_scaling`.

    Raises FormatError when transformers refuses them or the tables are not finite over the declared range and one row beyond.
    """
    positions = record.integer("max_position_embeddings", "max_position_embeddings", 2048, LLAMA)
    given: dict[str, Any] = {key: deepcopy(record.config[key]) for key in SPELLINGS if record.config.get(key) is not None}
    try:
        built = LlamaConfig(
            hidden_size=width, num_attention_heads=heads, head_dim=head_dim, max_position_embeddings=positions, **given
        )  # fmt: skip
        sound = _is_sound(built, head_dim, positions, record.config)
    except UNUSABLE as error:
        raise FormatError(
            f"{record.where}/config.json: its RoPE settings cannot be used ({reason(error)}), expected a RoPE type that transformers knows"
        ) from error
    values = built.rope_parameters or {}
    shown = ", ".join(f"{key} {value}" for key, value in sorted(values.items()))
    if not sound:
        raise FormatError(
            f"{record.where}/config.json: RoPE with {shown} gives no finite rotation of whole heads of {head_dim}, correct it"
        )
    record.note("rope", shown, f"config:{', '.join(key for key in SPELLINGS if key in given)}" if given else f"default:{LLAMA}")
    return built


def _is_sound(built: LlamaConfig, head_dim: int, positions: int, config: Mapping[str, Json]) -> bool:
    values: dict[str, Any] = dict(built.rope_parameters or {})
    theta, part = values["rope_theta"], values.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    rotary = LlamaRotaryEmbedding(built)
    cos, sin = rotary(torch.empty(0), torch.tensor([[0, positions]]))  # beyond the range, where dynamic types change their frequencies
    whole = part in (None, 1) and cos.shape[-1] == head_dim
    turning = bool((rotary.inv_freq > 0).all() and torch.isfinite(cos).all() and torch.isfinite(sin).all())
    return whole and turning and not isinstance(theta, bool) and theta > 0
