"""Heads without attention: each guesses from the target's last hidden state, of some from the tokens guessed before besides.

    Medusa          o = h, then o + silu(W o + b) for every block;                 logits_d = head_d(o)
    Hydra           x = concat(h, e(x_a), e(t_1), ..., e(t_{d-1}));  o = R x + silu(W x + b), then further blocks
    MLPSpeculator   s = gelu(norm(w_s P_d s + w_e E_d(t)));  logits_d = head_d(s), s being the target's state before the first

Sources: Medusa (arXiv:2401.10774) and Hydra (arXiv:2402.05109) as their authors' code has them; MLPSpeculator (arXiv:2404.19124) as
fms-extras and vLLM 0.32 do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from driftcli.conditions import Wiring
from driftcli.families.layers import Linear

EPS = 1e-6  # of MLPSpeculator's norms, in every class


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a stage gives: what its output head reads, and what the next stage reads besides a token; (step, width) each."""

    output: Tensor
    memory: Tensor


class Stage(Protocol):
    """What guesses at one depth."""

    @property
    def head(self) -> Linear:
        """Its output projection."""

    def embed(self, tokens: Tensor) -> Tensor:
        """What it reads of the tokens just chosen, (step,) -> (step, width), of no width where that is nothing."""

    def __call__(self, memory: Tensor, embedded: Tensor) -> Stepped:
        """One step; memory: (step, ...) of the stage before."""


@dataclass(frozen=True, slots=True)
class Block:
    """around(x) + silu(inner(x)); around: absent where x itself goes around."""

    inner: Linear
    around: Linear | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(step, inputs) -> (step, width)."""
        return (x if self.around is None else self.around(x)) + F.silu(self.inner(x))


@dataclass(frozen=True, slots=True)
class StateHead:
    """A head that reads the target's state alone, as Medusa's do."""

    blocks: tuple[Block, ...]
    head: Linear

    def embed(self, tokens: Tensor) -> Tensor:
        """As the contract: nothing."""
        return self.head.weight.new_empty(len(tokens), 0)

    def __call__(self, memory: Tensor, embedded: Tensor) -> Stepped:
        """As the contract; the state is handed on as it is."""
        output = memory
        for block in self.blocks:
            output = block(output)
        return Stepped(output, memory)


@dataclass(frozen=True, slots=True)
class TokensHead:
    """A head that reads the target's state and all tokens behind it, as Hydra's do. embedding: the target's."""

    embedding: Tensor
    blocks: tuple[Block, ...]
    head: Linear

    def embed(self, tokens: Tensor) -> Tensor:
        """As the contract: rows of the target's embedding."""
        return F.embedding(tokens, self.embedding)

    def __call__(self, memory: Tensor, embedded: Tensor) -> Stepped:
        """As the contract; the new token's embedding is put behind what the stage before has read."""
        output = read = torch.cat([memory, embedded], dim=-1)
        for block in self.blocks:
            output = block(output)
        return Stepped(output, read)


@dataclass(frozen=True, slots=True)
class StateStep:
    """A step of a state through a projection, a token's embedding and a norm, as MLPSpeculator makes it."""

    projection: Linear
    embedding: Tensor
    gain: Tensor
    shift: Tensor
    head: Linear
    state_weight: float
    embedding_weight: float

    def embed(self, tokens: Tensor) -> Tensor:
        """As the contract: rows of an embedding of its own."""
        return F.embedding(tokens, self.embedding)

    def __call__(self, memory: Tensor, embedded: Tensor) -> Stepped:
        """As the contract; what is handed on is the new state."""
        mixed = self.projection(memory) * self.state_weight + embedded * self.embedding_weight
        state = F.gelu(self.gain * scaled_to_one(mixed) + self.shift)
        return Stepped(state, state)


def scaled_to_one(x: Tensor) -> Tensor:
    """Vectors by their RMS, in their own dtype; (step, width)."""
    return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS)).to(x.dtype)


@dataclass(frozen=True)
class FeedForward:
    """Loaded heads, one a depth. boundary: of the target's state that they read. halved: it is normed, and divided by the root of two,
    before it is read. recurrent: every stage hands a state of its own to one of the same weights. blind: no stage reads a token.
    """

    boundary: int
    stages: tuple[Stage, ...]
    recurrent: bool = False
    blind: bool = False
    halved: bool = False

    @property
    def boundaries(self) -> tuple[int, ...]:
        """The one stream that they read."""
        return (self.boundary,)

    def wired(self, wiring: Wiring) -> FeedForward:
        """The same weights on another state of the target."""
        return replace(self, boundary=wiring.capture[0]) if wiring.capture else self

    def fuse(self, streams: Mapping[int, Tensor]) -> Tensor:
        """The target's hidden state as it is."""
        return streams[self.boundary].to(self.stages[0].head.weight)

    def contributions(self, streams: Mapping[int, Tensor]) -> list[Tensor]:
        """The one stream."""
        return [self.fuse(streams)]

    def begin(self, states: Tensor) -> Tensor:
        """What the first stage reads of the target's states (step, width)."""
        return scaled_to_one(states) / 2**0.5 if self.halved else states

    @property
    def vocabulary(self) -> int:
        """Tokens that are scored, the target's first ones."""
        return len(self.stages[0].head.weight)
