"""The decoder layers of heads: grouped or latent attention, an MLP of any kind, and the norms around them.

Weights stay in the pair's dtype; norms and rotations are computed in float32. Sources: Ainslie et al. 2023 (arXiv:2305.13245) for grouped
keys, DeepSeek-V2 (arXiv:2405.04434) for latent ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from driftcli.conditions import Rotation
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

    k: absent where queries read somebody else's keys. v: absent where keys, before norm and rotation, stand for values. unscaled: scores
    as they are, and values normed without a gain, as in Gemma 4. paired: the numbers that turn together lie side by side, not half a head
    apart. factor: of scores, where it is not one over the root of a head's size. sinks: (head,), learned scores that take attention to no
    key.
    """

    q: Linear
    k: Linear | None
    v: Linear | None
    o: Linear
    size: int
    eps: float
    q_norm: Tensor | None = None
    k_norm: Tensor | None = None
    unscaled: bool = False
    paired: bool = False
    factor: float | None = None
    sinks: Tensor | None = None

    @property
    def scale(self) -> float:
        """What scores are multiplied with."""
        return 1.0 if self.unscaled else self.factor or float(self.size**-0.5)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> Projected:
        """Queries, keys and values, of no head where they are somebody else's; cos and sin: (step, size)."""
        query = self._heads(x, self.q)
        if self.k is None:
            nothing = query[:0]
            return Projected(self._turned(self._normed(query, self.q_norm), cos, sin), nothing, nothing)
        key = self._heads(x, self.k)
        value = key if self.v is None else self.v(x).view(len(x), len(key), -1).transpose(0, 1)
        if self.unscaled:
            value = rms_norm(value, torch.ones_like(value[0, 0]), self.eps)
        turned = [self._turned(self._normed(*pair), cos, sin) for pair in ((query, self.q_norm), (key, self.k_norm))]
        return Projected(turned[0], turned[1], value)

    def _heads(self, x: Tensor, projection: Linear) -> Tensor:
        return projection(x).view(len(x), -1, self.size).transpose(0, 1)

    def _turned(self, heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        turned = cos.shape[-1]
        return rotate(torch.cat([_halves(heads[..., :turned]), heads[..., turned:]], dim=-1) if self.paired else heads, cos, sin)

    def _normed(self, heads: Tensor, gain: Tensor | None) -> Tensor:
        return heads if gain is None else rms_norm(heads, gain, self.eps)


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention, its keys and values unfolded per head: a plain part, and a rotated part that all heads' keys share.

    low_q and q_gain are absent where the query has no latent. rotated: how much of a head's `size` turns; paired: its pairs lie side by
    side.
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
    paired: bool = True

    @property
    def sinks(self) -> None:
        """None."""

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> Projected:
        """Queries, keys and values; cos and sin: (step, rotated)."""
        low = x if self.low_q is None or self.q_gain is None else rms_norm(self.low_q(x), self.q_gain, self.eps)
        query = self.q(low).view(len(x), self.heads, self.size).transpose(0, 1)
        plain = self.size - self.rotated
        low_kv, rank = self.low_kv(x), self.kv_gain.shape[0]
        latent, shared = low_kv[..., :rank], low_kv[..., rank:]
        pair = self.kv(rms_norm(latent, self.kv_gain, self.eps)).view(len(x), self.heads, -1).transpose(0, 1)
        turned = rotate(self._ordered(shared)[None], cos, sin).expand(self.heads, -1, -1)
        return Projected(
            torch.cat([query[..., :plain], rotate(self._ordered(query[..., plain:]), cos, sin)], dim=-1),
            torch.cat([pair[..., :plain], turned], dim=-1),
            pair[..., plain:],
        )

    def _ordered(self, x: Tensor) -> Tensor:
        return _halves(x) if self.paired else x


Attention: TypeAlias = GroupedAttention | LatentAttention


@dataclass(frozen=True, slots=True)
class GatedMlp:
    """down(act(gate(x)) * up(x)), act being SiLU, or the GELU of Gemma; most: what gate and up are held to, absent for no bound."""

    gate: Tensor
    up: Tensor
    down: Tensor
    gelu: bool = False
    most: float | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(step, width) -> (step, width)."""
        gate, up = F.linear(x, self.gate), F.linear(x, self.up)
        opened = F.gelu(gate, approximate="tanh") if self.gelu else F.silu(gate)
        if self.most is not None:
            opened, up = opened.clamp(max=self.most), up.clamp(-self.most, self.most)
        return F.linear(opened * up, self.down)


Mlp: TypeAlias = Callable[[Tensor], Tensor]
GAINS = ("gain", "attended_gain", "mlp_gain", "out_gain")


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """A layer: attention and MLP, each added to the residual stream; every norm of its is absent where the family has none there.

    gain, mlp_gain: of the stream in front of attention and MLP, the former absent too where the drafter norms that itself. attended_gain,
    out_gain: of what the two give. scalar: (1,), scales what leaves. gate: opens, by sigmoid, what each head attends to, number by number
    (heads * size, inputs) or head by head (heads, inputs). window: rows that a query sees; from_anchor: counted back from its anchor's row,
    its chain seen besides.
    """

    attention: Attention
    mlp: Mlp
    eps: float
    gain: Tensor | None = None
    mlp_gain: Tensor | None = None
    attended_gain: Tensor | None = None
    out_gain: Tensor | None = None
    scalar: Tensor | None = None
    gate: Linear | None = None
    window: int | None = None
    from_anchor: bool = False

    @property
    def scale(self) -> float:
        """What scores are multiplied with."""
        return self.attention.scale

    @property
    def sinks(self) -> Tensor | None:
        """A learned score a head that takes attention to no key; (head,)."""
        return self.attention.sinks

    def at_one(self) -> DecoderLayer:
        """The layer with the gains of its norms at 1."""
        return replace(self, **{name: torch.ones_like(gain) for name in GAINS if (gain := getattr(self, name)) is not None})  # type: ignore[arg-type]

    def turned_as(self, rotation: Rotation) -> DecoderLayer:
        """The layer with the other numbers of its heads turning together."""
        return replace(self, attention=replace(self.attention, paired=rotation == "pairs"))

    def normed_with(self, eps: float) -> DecoderLayer:
        """The layer with another number beside the mean square in its norms, those of queries and keys too."""
        return replace(self, eps=eps, attention=replace(self.attention, eps=eps))

    def enter(self, stream: Tensor) -> Flow:
        """The residual stream, normed for the attention; beside it in what goes around stand the gate's openings, where there is one."""
        inputs = self._normed(stream, self.gain)
        return Flow(inputs, stream if self.gate is None else torch.cat([stream, self.gate(inputs).sigmoid()], dim=-1))

    def project(self, inputs: Tensor, rows: Tensor, rope: RopeTables) -> Projected:
        """Queries, keys and values at absolute rows."""
        return self.attention.project(inputs, rope.cos[rows], rope.sin[rows])

    def leave(self, residual: Tensor, attended: Tensor) -> Tensor:
        """Output projection and MLP, each added to the residual stream."""
        width = len(self.attention.o.weight)
        if self.gate is not None:
            openings = residual[..., width:, None]
            attended = (attended.view(*openings.shape[:-1], -1) * openings).flatten(-2)
        inner = residual[..., :width] + self._normed(self.attention.o(attended), self.attended_gain)
        out = inner + self._normed(self.mlp(self._normed(inner, self.mlp_gain)), self.out_gain)
        return out if self.scalar is None else out * self.scalar

    def _normed(self, x: Tensor, gain: Tensor | None) -> Tensor:
        return x if gain is None else rms_norm(x, gain, self.eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE on (head, step, size) with the halves rotated, as Llama does; smaller tables turn the first numbers of a head alone."""
    if (turned := cos.shape[-1]) < x.shape[-1]:
        return torch.cat([rotate(x[..., :turned], cos, sin), x[..., turned:]], dim=-1)
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


def _halves(x: Tensor) -> Tensor:
    """Pairs that lie side by side put into halves; queries and keys alike, so that scores stay what they are."""
    return torch.cat([x[..., 0::2], x[..., 1::2]], dim=-1)
