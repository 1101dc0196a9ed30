"""An EAGLE-3 head as a plain module, written from the papers (arXiv:2503.01840, arXiv:2605.09992) and sharing no code with driftcli's
engine: that the engine measures what was trained here is a test of both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PretrainedConfig

from driftcli.errors import FormatError
from driftcli.target.language_model import LanguageModel

LEAST_LAYERS = 7  # of a target, or its three boundaries are not in order


@dataclass(frozen=True)
class HeadShape:
    """Sizes of the head, in SafeAILab's config names; one decoder layer, three streams."""

    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    draft_vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int
    num_hidden_layers: int = 1

    @classmethod
    def of(cls, target: LanguageModel, draft_vocabulary: int) -> HeadShape:
        """One layer of the target's own sizes; FormatError for a target whose sizes cannot be those of a head."""
        config, heads = target.config, getattr(target.config, "num_attention_heads", None)
        inner, reach = (getattr(config, name, None) for name in ("intermediate_size", "max_position_embeddings"))
        if not all(isinstance(size, int) for size in (heads, inner, reach)) or len(target.layers) < LEAST_LAYERS:
            raise FormatError(
                f"{target.source.name}: {len(target.layers)} layers, num_attention_heads {heads}, intermediate_size {inner}, "
                f"max_position_embeddings {reach}; expected at least {LEAST_LAYERS} layers to take three streams from and three numbers"
            )
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        key_heads = getattr(config, "num_key_value_heads", None) or heads
        return cls(
            config.hidden_size, inner, heads, key_heads, size - size % 2, config.vocab_size, min(draft_vocabulary, config.vocab_size),
            getattr(config, "rms_norm_eps", 1e-5), rope_base(config), reach,
        )  # fmt: skip


def rope_base(config: PretrainedConfig) -> float:
    """The target's RoPE base, of its full-attention layers where the types differ; Llama's 10000 for a target without RoPE."""
    said = getattr(config, "rope_parameters", None) or {}
    said = said.get("full_attention", said)
    return float(said.get("rope_theta", 10_000.0))


class Norm(nn.RMSNorm):
    """RMSNorm in float32, whatever comes in."""

    def forward(self, x: Tensor) -> Tensor:
        """The normed input, in its own dtype."""
        return super().forward(x.float()).to(x.dtype)


class Head(nn.Module):
    """EAGLE-3: streams -> fc -> one decoder layer over (embedding, state); post-norm: a norm per stream, normed state fed back."""

    def __init__(self, shape: HeadShape, *, post_norm: bool) -> None:
        super().__init__()
        width, self.shape, self.post_norm = shape.hidden_size, shape, post_norm
        q_width, kv_width = (heads * shape.head_dim for heads in (shape.num_attention_heads, shape.num_key_value_heads))

        def norm() -> Norm:
            return Norm(width, eps=shape.rms_norm_eps)

        self.fc_norm = nn.ModuleList([norm() for _ in range(3)]) if post_norm else None
        self.fc = nn.Linear(3 * width, width, bias=False)
        self.hidden_norm, self.input_layernorm, self.post_attention_layernorm, self.norm = norm(), norm(), norm(), norm()
        self.q_proj, self.o_proj = nn.Linear(2 * width, q_width, bias=False), nn.Linear(q_width, width, bias=False)
        self.k_proj, self.v_proj = nn.Linear(2 * width, kv_width, bias=False), nn.Linear(2 * width, kv_width, bias=False)
        self.gate_proj, self.up_proj = (nn.Linear(width, shape.intermediate_size, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(shape.intermediate_size, width, bias=False)
        self.lm_head = nn.Linear(width, shape.draft_vocab_size, bias=False)

    def fuse(self, streams: Tensor) -> Tensor:
        """Streams (batch, row, 3 * width) -> the first state (batch, row, width)."""
        if self.fc_norm is not None:
            streams = torch.cat([norm(part) for norm, part in zip(self.fc_norm, streams.chunk(3, dim=-1), strict=True)], dim=-1)
        return self.fc(streams)

    def step(self, embeddings: Tensor, state: Tensor, step: int, keys: list[Tensor], values: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What `lm_head` reads and the next state, of unrolled step `step`; appends this step's keys and values, which only the row's own
        chain sees later.
        """
        residual = state
        x = torch.cat([self.input_layernorm(embeddings), self.hidden_norm(state)], dim=-1)
        batch, rows, _ = x.shape
        cos, sin = rotary(torch.arange(rows, device=x.device) + step, self.shape.head_dim, self.shape.rope_theta)

        def split(y: Tensor) -> Tensor:
            return y.view(batch, rows, -1, self.shape.head_dim).transpose(1, 2)

        groups = self.shape.num_attention_heads // self.shape.num_key_value_heads
        query = rotate(split(self.q_proj(x)), cos, sin)
        keys.append(rotate(split(self.k_proj(x)), cos, sin).repeat_interleave(groups, dim=1))
        values.append(split(self.v_proj(x)).repeat_interleave(groups, dim=1))
        attended = attend(query, keys, values).transpose(1, 2).reshape(batch, rows, -1)
        state = residual + self.o_proj(attended)
        normed = self.post_attention_layernorm(state)
        state = state + self.down_proj(F.silu(self.gate_proj(normed)) * self.up_proj(normed))
        out = self.norm(state)
        return out, out if self.post_norm else state


def rotary(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine (position, head_dim) of the default RoPE."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim)
    angles = torch.outer(positions.float(), frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE on (batch, head, row, head_dim), halves rotated as in Llama."""
    first, second = x.float().chunk(2, dim=-1)
    return (x * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


def attend(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Attention of an unrolled step: causal over the rows of step 0, plus the row's own earlier steps."""
    if len(keys) == 1:
        return F.scaled_dot_product_attention(query, keys[0], values[0], is_causal=True)
    scale, rows = query.shape[-1] ** -0.5, query.shape[2]
    later = torch.ones(rows, rows, dtype=torch.bool, device=query.device).triu(1)
    scores = [(query @ keys[0].transpose(2, 3)).float().mul(scale).masked_fill(later, -torch.inf)]
    scores += [(query * key).float().sum(-1, keepdim=True) * scale for key in keys[1:]]
    shares = torch.cat(scores, dim=-1).softmax(-1).to(query.dtype)
    out = shares[..., :rows] @ values[0]
    for number, value in enumerate(values[1:]):
        out = out + shares[..., rows + number, None] * value
    return out


def export(head: Head, ids: Tensor, out: Path) -> None:
    """`config.json` and `model.safetensors` in SafeAILab's layout with the EAGLE 3.1 fields, weights in bfloat16."""
    outer, vocabulary = ("fc", "norm", "lm_head"), head.shape.vocab_size
    tensors = {
        name if name.startswith(outer) else _layer_name(name): value.detach().bfloat16().cpu().contiguous()
        for name, value in head.state_dict().items()
    }
    tensors["d2t"] = ids - torch.arange(len(ids))
    tensors["t2d"] = torch.zeros(vocabulary, dtype=torch.bool).index_fill(0, ids, True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    flags = {"fc_norm": True, "norm_output": True} if head.post_norm else {}
    named = {"architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", **asdict(head.shape), **flags}
    (out / "config.json").write_text(json.dumps({**named, "hidden_act": "silu", "torch_dtype": "bfloat16"}, indent=2) + "\n")


def _layer_name(name: str) -> str:
    part = name.split(".", maxsplit=1)[0]
    group = "self_attn." if part in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp." if part.endswith("_proj") else ""
    return f"midlayer.{group}{name}"
