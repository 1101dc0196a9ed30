"""RoPE tables by transformers' own rotary embedding, so that every RoPE type is theirs."""

from __future__ import annotations

import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from driftcli.families.self_feeding import RopeTables


def rope_tables(config: LlamaConfig, rows: int, device: torch.device) -> RopeTables:
    """Tables for rows `0 .. rows - 1`; types whose frequencies depend on the length see `rows` as the length."""
    cos, sin = LlamaRotaryEmbedding(config).to(device)(torch.empty(0, device=device), torch.arange(rows, device=device)[None])
    return RopeTables(cos[0].float(), sin[0].float())
