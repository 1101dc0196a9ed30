"""RoPE settings as a transformers config, tried before they are believed.

A rotation of only part of a head is refused: no EAGLE head is trained so, and transformers' own Llama passes over the key without a word.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from driftcli.errors import FormatError
from driftcli.loading.files import reason
from driftcli.loading.rope import Rope, shown

UNUSABLE = (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError, StrictDataclassError)


def rope_config(rope: Rope, head_dim: int, positions: int, partial: object, where: str) -> LlamaConfig:
    """The config that `LlamaRotaryEmbedding` turns into tables of `head_dim`.

    positions: the declared range. partial: the config's `partial_rotary_factor`. Raises FormatError when transformers refuses the settings
    or the tables are not finite over the declared range and one row beyond.
    """
    given: Any = deepcopy(dict(rope))
    try:
        built = LlamaConfig(
            hidden_size=head_dim, num_attention_heads=1, head_dim=head_dim, max_position_embeddings=positions, rope_parameters=given
        )
        sound = _is_sound(built, head_dim, positions, partial)
    except UNUSABLE as error:
        raise FormatError(
            f"{where}/config.json: its RoPE settings cannot be used ({reason(error)}), expected a RoPE type that transformers knows"
        ) from error
    if not sound:
        raise FormatError(f"{where}/config.json: RoPE with {shown(rope)} gives no finite rotation of whole heads of {head_dim}, correct it")
    return built


def _is_sound(built: LlamaConfig, head_dim: int, positions: int, partial: object) -> bool:
    values: dict[str, Any] = dict(built.rope_parameters or {})
    theta, part = values["rope_theta"], values.get("partial_rotary_factor", partial)
    rotary = LlamaRotaryEmbedding(built)
    cos, sin = rotary(torch.empty(0), torch.tensor([[0, positions]]))  # beyond the range, where dynamic types change their frequencies
    whole = part in (None, 1) and cos.shape[-1] == head_dim
    turning = bool((rotary.inv_freq > 0).all() and torch.isfinite(cos).all() and torch.isfinite(sin).all())
    return whole and turning and not isinstance(theta, bool) and theta > 0
