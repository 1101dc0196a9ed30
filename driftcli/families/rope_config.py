"""RoPE settings as a transformers config, tried before they are believed.

A rotation of only part of a head is refused: no EAGLE head is trained so, and transformers' own Llama passes over the key without a word.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from driftcli.errors import FormatError
from driftcli.families.rope import Rope, shown
from driftcli.sources.files import reason

MOST_AMPLITUDE = 100.0  # of cos and sin (chosen by us: types that scale attention stay below 3, and scores hold its fourth power)
UNUSABLE = (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError, StrictDataclassError)


def rope_config(rope: Rope, head_dim: int, positions: int, partial: object, where: str) -> LlamaConfig:
    """The config that `LlamaRotaryEmbedding` turns into tables of `head_dim`.

    positions: the declared range. partial: the config's `partial_rotary_factor`. Raises FormatError when transformers refuses the settings
    or the tables are not finite and small over the declared range and one row beyond.
    """
    given: Any = deepcopy(dict(rope))
    _require_known_words(rope, where)
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


def _require_known_words(rope: Rope, where: str) -> None:
    """Refuse any text but a known type: transformers repeats it in warnings as it stands, escape sequences and all."""
    words = {key: value for key, value in rope.items() if isinstance(value, str)}
    kind = words.pop("rope_type", None)
    if words or (kind is not None and kind not in ("default", *ROPE_INIT_FUNCTIONS)):
        raise FormatError(
            f"{where}/config.json: its RoPE settings cannot be used ({words or kind!r}), "
            "expected numbers and a RoPE type that transformers knows"
        )


def _is_sound(built: LlamaConfig, head_dim: int, positions: int, partial: object) -> bool:
    values: dict[str, Any] = dict(built.rope_parameters or {})
    theta, part = values["rope_theta"], values.get("partial_rotary_factor", partial)
    rotary = LlamaRotaryEmbedding(built)
    cos, sin = rotary(torch.empty(0), torch.tensor([[0, positions]]))  # beyond the range, where dynamic types change their frequencies
    proportional = values.get("rope_type") == "proportional"  # which leaves the rest of a head where it is by frequencies of 0
    whole = (proportional or part in (None, 1)) and cos.shape[-1] == head_dim
    frequencies = rotary.inv_freq >= 0 if proportional else rotary.inv_freq > 0
    turning = bool(frequencies.all() and (torch.cat([cos, sin]).abs() <= MOST_AMPLITUDE).all())  # false for NaN too
    return whole and turning and not isinstance(theta, bool) and theta > 0
