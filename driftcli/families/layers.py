"""The decoder layers of EAGLE-family heads: grouped or latent attention, a gated MLP, and the norms around them.

Weights stay in the pair's dtype; norms and rotations are computed in float32. Sources: Ainslie et al. 2023 (arXiv:2305.13245) for grouped
keys, DeepSeek-V2 (arXiv:2405.04434) for latent ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from driftcli.families.self_feeding import Flow, Projected, RopeTables


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last axis in float32, in the dtype of `x`."""
    return F.rms_norm(x.float(), gain.shape, gain.float(), eps).to(x.dtype)


@dataclass(frozen=True, slots=True)
class Linear:
    """A projection with or without a bias."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(step, inputs) -> (step, outputs)."""
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class GroupedAttention:
    """Projections of grouped-query attention; q_norm and k_norm are applied to each head where they are there.

    v: absent where keys, before norm and rotation, stand for values. unscaled: scores as they are, and values normed without a gain, as in
    Gemma 4.
    """

    q: Linear
    k: Linear
    v: Linear | None
    o: Linear
    size: int
    eps: float
    q_norm: Tensor | None = None
    k_norm: Tensor | None = None
    unscaled: bool = False

    @property
    def scale(self) -> float:
        """One over the root of a head's size, or 1."""
        return 1.0 if self.unscaled else float(self.size**-0.5)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> Projected:
        """Queries, keys and values; cos and sin: (step, size)."""
        query, key = self._heads(x, self.q), self._heads(x, self.k)
        value = key if self.v is None else self._heads(x, self.v)
        if self.unscaled:
            value = rms_norm(value, torch.ones_like(value[0, 0]), self.eps)
        return Projected(rotate(self._normed(query, self.q_norm), cos, sin), rotate(self._normed(key, self.k_norm), cos, sin), value)

    def _heads(self, x: Tensor, projection: Linear) -> Tensor:
        return projection(x).view(len(x), -1, self.size).transpose(0, 1)

    def _normed(self, heads: Tensor, gain: Tensor | None) -> Tensor:
        return heads if gain is None else rms_norm(heads, gain, self.eps)


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention, its keys and values unfolded per head: a plain part, and a rotated part that all heads' keys share.

    low_q and q_gain are absent where the query has no latent. rotated: how much of a head's `size` turns, its pairs lying side by side.
    """

    low_q: Linear | None
    q_gain: Tensor | None
    q: Linear
    low_kv: Linear
    kv_gain: Tensor
    kv: Linear
    o: Linear
    heads: int
    size: int
    rotated: int
    eps: float
    scale: float

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> Projected:
        """Queries, keys and values; cos and sin: (step, rotated)."""
        low = x if self.low_q is None or self.q_gain is None else rms_norm(self.low_q(x), self.q_gain, self.eps)
        query = self.q(low).view(len(x), self.heads, self.size).transpose(0, 1)
        plain = self.size - self.rotated
        low_kv, rank = self.low_kv(x), self.kv_gain.shape[0]
        latent, shared = low_kv[..., :rank], low_kv[..., rank:]
        pair = self.kv(rms_norm(latent, self.kv_gain, self.eps)).view(len(x), self.heads, -1).transpose(0, 1)
        turned = rotate(_halves(shared)[None], cos, sin).expand(self.heads, -1, -1)
        return Projected(
            torch.cat([query[..., :plain], rotate(_halves(query[..., plain:]), cos, sin)], dim=-1),
            torch.cat([pair[..., :plain], turned], dim=-1),
            pair[..., plain:],
        )


Attention: TypeAlias = GroupedAttention | LatentAttention


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """A layer; `gain` norms the residual stream in front of its attention and is absent where the drafter does that itself.

    window: rows that a query sees; from_anchor: counted back from its anchor's row, its chain seen besides.
    """

    attention: Attention
    gain: Tensor | None
    mlp_gain: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor
    eps: float
    window: int | None = None
    from_anchor: bool = False

    @property
    def scale(self) -> float:
        """What scores are multiplied with."""
        return self.attention.scale

    def at_one(self) -> DecoderLayer:
        """The layer with the gains of its norms at 1."""
        return replace(self, gain=None if self.gain is None else torch.ones_like(self.gain), mlp_gain=torch.ones_like(self.mlp_gain))

    def enter(self, stream: Tensor) -> Flow:
        """The residual stream, normed for the attention."""
        return Flow(stream if self.gain is None else rms_norm(stream, self.gain, self.eps), stream)

    def project(self, inputs: Tensor, rows: Tensor, rope: RopeTables) -> Projected:
        """Queries, keys and values at absolute rows."""
        return self.attention.project(inputs, rope.cos[rows], rope.sin[rows])

    def leave(self, residual: Tensor, attended: Tensor) -> Tensor:
        """Output projection and MLP, each added to the residual stream."""
        inner = residual + self.attention.o(attended)
        normed = rms_norm(inner, self.mlp_gain, self.eps)
        return inner + F.linear(F.silu(F.linear(normed, self.gate)) * F.linear(normed, self.up), self.down)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandwichLayer(DecoderLayer):
    """A layer of Gemma 4: what attention and MLP give is normed before it joins the residual stream; `scalar` (1,) scales what leaves."""

    attended_gain: Tensor
    out_gain: Tensor
    scalar: Tensor

    def at_one(self) -> SandwichLayer:
        """The layer with the gains of its norms at 1."""
        one = torch.ones_like
        gain = None if self.gain is None else one(self.gain)
        return replace(self, gain=gain, mlp_gain=one(self.mlp_gain), attended_gain=one(self.attended_gain), out_gain=one(self.out_gain))

    def leave(self, residual: Tensor, attended: Tensor) -> Tensor:
        """Output projection and MLP, each normed and added to the residual stream."""
        inner = residual + rms_norm(self.attention.o(attended), self.attended_gain, self.eps)
        normed = rms_norm(inner, self.mlp_gain, self.eps)
        out = F.linear(F.gelu(F.linear(normed, self.gate), approximate="tanh") * F.linear(normed, self.up), self.down)
        return (inner + rms_norm(out, self.out_gain, self.eps)) * self.scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedLayer(DecoderLayer):
    """A layer whose queries come with a gate (heads * size, inputs) on what each head attends to (Qwen3-Next and Qwen3.5)."""

    attention_gate: Linear

    def enter(self, stream: Tensor) -> Flow:
        """The residual stream, normed for the attention, and beside it in what goes around the gate's openings."""
        flow = DecoderLayer.enter(self, stream)
        return Flow(flow.inputs, torch.cat([stream, self.attention_gate(flow.inputs).sigmoid()], dim=-1))

    def leave(self, residual: Tensor, attended: Tensor) -> Tensor:
        """Gate, output projection and MLP."""
        stream, opened = residual[..., : -attended.shape[-1]], residual[..., -attended.shape[-1] :]
        return DecoderLayer.leave(self, stream, attended * opened)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE on (head, step, size) with the halves rotated, as Llama does; smaller tables turn the first numbers of a head alone."""
    if (turned := cos.shape[-1]) < x.shape[-1]:
        return torch.cat([rotate(x[..., :turned], cos, sin), x[..., turned:]], dim=-1)
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


def _halves(x: Tensor) -> Tensor:
    """Pairs that lie side by side put into halves; queries and keys alike, so that scores stay what they are."""
    return torch.cat([x[..., 0::2], x[..., 1::2]], dim=-1)
