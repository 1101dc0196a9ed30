"""What the heads here have in common: sizes, one Llama decoder layer that attends along unrolled steps, and what training asks of a head.

Written from the papers and sharing no code with driftcli's engine: that the engine measures what was trained here is a test of both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig

from driftcli.errors import FormatError
from driftcli.target.language_model import LanguageModel
from driftcli.training.sampling import Among
from driftcli.training.streams import Batch

LEAST_LAYERS = 7  # of a target, or its three boundaries are not in order
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
INNER = ("gate_proj", "up_proj", "down_proj")


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


class Layer(nn.Module, ABC):
    """A head around one decoder layer: attention and SwiGLU are here, the norms and what goes in and out are the head's own."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.shape = shape

    @abstractmethod
    def first(self, batch: Batch, rows: int) -> Tensor:
        """The state of the first `rows` positions that comes from the target, (batch, row, width)."""

    @abstractmethod
    def step(self, embeddings: Tensor, state: Tensor, step: int, keys: list[Tensor], values: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What `logits` reads and the next state, of unrolled step `step`; appends this step's keys and values, which only the row's own
        chain sees later.
        """

    @property
    @abstractmethod
    def scoring(self) -> Tensor:
        """Rows of the output head (token, width)."""

    def logits(self, out: Tensor, among: Among | None = None) -> Tensor:
        """Scores of the tokens that the head can propose, or of those `among` only, (..., token), from what `step` returns."""
        return F.linear(out, self.scoring) if among is None else among.weighed(F.linear(out, self.scoring[among.ids]))

    def norm_of_width(self) -> Norm:
        """A norm over the width of the stream."""
        return Norm(self.shape.hidden_size, eps=self.shape.rms_norm_eps)

    def add_projections(self, reads: int, *, attention_bias: bool = False, inner_bias: bool = False) -> None:
        """Make the projections of a layer whose attention reads `reads` numbers a row."""
        shape, width = self.shape, self.shape.hidden_size
        q_width, kv_width = (heads * shape.head_dim for heads in (shape.num_attention_heads, shape.num_key_value_heads))
        self.q_proj, self.o_proj = nn.Linear(reads, q_width, bias=attention_bias), nn.Linear(q_width, width, bias=attention_bias)
        self.k_proj, self.v_proj = (nn.Linear(reads, kv_width, bias=attention_bias) for _ in range(2))
        self.gate_proj, self.up_proj = (nn.Linear(width, shape.intermediate_size, bias=inner_bias) for _ in range(2))
        self.down_proj = nn.Linear(shape.intermediate_size, width, bias=inner_bias)

    def attended(self, x: Tensor, step: int, keys: list[Tensor], values: list[Tensor]) -> Tensor:
        """What attention adds to the state, (batch, row, width), from (batch, row, reads); appends to keys and values."""
        batch, rows, _ = x.shape
        cos, sin = rotary(torch.arange(rows, device=x.device) + step, self.shape.head_dim, self.shape.rope_theta)

        def split(y: Tensor) -> Tensor:
            return y.view(batch, rows, -1, self.shape.head_dim).transpose(1, 2)

        groups = self.shape.num_attention_heads // self.shape.num_key_value_heads
        query = rotate(split(self.q_proj(x)), cos, sin)
        keys.append(rotate(split(self.k_proj(x)), cos, sin).repeat_interleave(groups, dim=1))
        values.append(split(self.v_proj(x)).repeat_interleave(groups, dim=1))
        return self.o_proj(attend(query, keys, values).transpose(1, 2).reshape(batch, rows, -1))

    def inner(self, x: Tensor) -> Tensor:
        """What SwiGLU adds to the state, from the normed state; (batch, row, width)."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


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


def stored_name(name: str) -> str:
    """A tensor of the layer as Llama checkpoints name it within a layer."""
    part = name.split(".", maxsplit=1)[0]
    return f"{'self_attn.' if part in ATTENTION else 'mlp.' if part in INNER else ''}{name}"
