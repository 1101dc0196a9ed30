"""Tiny Gemma 4 targets and assistants for them, made by transformers' own classes with seeded weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from transformers import (
    Gemma4AssistantConfig,
    Gemma4AssistantForCausalLM,
    Gemma4Config,
    Gemma4ForCausalLM,
    Gemma4ForConditionalGeneration,
    Gemma4TextConfig,
)

from tests.tiny import tokenizer

FULL, SLIDING = "full_attention", "sliding_attention"
WIDTH, WINDOW = 48, 8
EYES = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8,
    "global_head_dim": 8,
}  # fmt: skip
ROPES = {
    SLIDING: {"rope_type": "default", "rope_theta": 100.0},
    FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 5000.0},
}


@dataclass(frozen=True)
class Case:
    """A pair. target, assistant: settings of the text models beside the usual ones; own: settings of the assistant itself; eyes: whether
    the target sees images too, as published ones do.
    """

    target: dict[str, object] = field(default_factory=dict)
    assistant: dict[str, object] = field(default_factory=dict)
    own: dict[str, object] = field(default_factory=dict)
    eyes: bool = False


CASES = {
    "plain": Case(),
    "shared": Case(  # whose last layers keep no keys of their own, as in the small ones
        {"num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 260}
    ),
    "keys-for-values": Case({"attention_k_eq_v": True, "num_global_key_value_heads": 1}),
    "ordered": Case(own={"use_ordered_embeddings": True, "num_centroids": 20, "centroid_intermediate_top_k": 3}),
    "eyes": Case({"num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 260}, eyes=True),
    "untied": Case(own={"tie_word_embeddings": False}),
}


def text_config(width: int, kinds: list[str], **changed: object) -> Gemma4TextConfig:
    """Settings of a tiny text model."""
    return Gemma4TextConfig(
        **{
            "vocab_size": len(tokenizer()), "hidden_size": width, "intermediate_size": 96, "num_hidden_layers": len(kinds),
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "global_head_dim": 16, "max_position_embeddings": 512,
            "sliding_window": WINDOW, "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0, "layer_types": kinds,
            "rope_parameters": ROPES, "initializer_range": 0.12, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1,
            "pad_token_id": 1, **changed,
        }
    )  # fmt: skip


def write_pair(name: str, folder: Path) -> tuple[Path, Path]:
    """Folders of the target and of the assistant."""
    case = CASES[name]
    torch.manual_seed(3)
    words, kinds = tokenizer(), [SLIDING, FULL, SLIDING, SLIDING, SLIDING, FULL]
    text = text_config(WIDTH, kinds, **case.target)
    target = Gemma4ForConditionalGeneration(Gemma4Config(text_config=text, vision_config=EYES)) if case.eyes else Gemma4ForCausalLM(text)
    tied = {"tie_word_embeddings": case.own.get("tie_word_embeddings", True)}
    own = Gemma4AssistantConfig(
        text_config=text_config(32, [SLIDING, SLIDING, FULL], **tied, **case.assistant), backbone_hidden_size=WIDTH, **case.own
    )
    assistant = Gemma4AssistantForCausalLM(own)
    for model in (target, assistant):
        _stir(model)
    if assistant.masked_embedding is not None:
        assistant.masked_embedding.token_ordering.copy_(torch.randperm(len(words)))
    target.generation_config.eos_token_id = 1
    target.save_pretrained(folder / "target")
    words.save_pretrained(folder / "target")
    assistant.save_pretrained(folder / "assistant")
    return folder / "target", folder / "assistant"


def _stir(model: nn.Module) -> None:
    """Gains and scalars about 1, so that none of them can be forgotten unseen."""
    with torch.no_grad():
        for name, held in [*model.named_parameters(), *model.named_buffers()]:
            if held.dim() == 1 and held.is_floating_point() and (name.endswith("norm.weight") or name.endswith("layer_scalar")):
                held.copy_(1 + 0.3 * torch.randn_like(held))
