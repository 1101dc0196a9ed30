"""RoPE tables by transformers' own rotary embedding, so that every RoPE type is theirs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from driftcli.families.self_feeding import RopeTables
from driftcli.target.in_process import LENGTH_DEPENDENT


def rope_tables(config: LlamaConfig, rows: int, device: torch.device) -> RopeTables:
    """Tables for rows `0 .. rows - 1`; types whose frequencies depend on the length see `rows` as the length."""
    cos, sin = LlamaRotaryEmbedding(config).to(device)(torch.empty(0, device=device), torch.arange(rows, device=device)[None])
    return RopeTables(cos[0].float(), sin[0].float())


def rope_of_all(config: LlamaConfig, rows: Sequence[int], device: torch.device) -> RopeTables:
    """Tables of several texts' rows, one text's behind the other's, each as `rope_tables` makes it for so many rows."""
    rotary, longest = LlamaRotaryEmbedding(config).to(device), max(rows)
    by_length = rotary.rope_type in LENGTH_DEPENDENT
    parts = [
        rotary(torch.empty(0, device=device), torch.arange(count, device=device)[None]) for count in (rows if by_length else [longest])
    ]
    cos, sin = (torch.cat([part[0].float() for part in tables]) for tables in zip(*parts, strict=True))
    if by_length:
        return RopeTables(cos, sin)
    index = torch.from_numpy(np.concatenate([np.arange(count) for count in rows])).to(device)
    return RopeTables(cos[index], sin[index])
