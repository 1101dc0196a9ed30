"""EAGLE-3 and EAGLE 3.1: one decoder layer over (embedding, state), fed by three of the target's streams.

    g = fc(concat_j [norm_j](S_j))                       first state, from the target
    a = residual + Attn(concat(norm(e), norm(h)))        residual: h raw, or as normed
    z = a + MLP(norm(a));  n = norm(z)
    logits = lm_head(n);   feedback = z (EAGLE-3) or n (EAGLE 3.1)

Sources: Li et al. 2025 (arXiv:2503.01840); Eldenk et al. (arXiv:2605.09992). Weights stay in the pair's dtype; norms are computed in
float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from driftcli.domain import DraftSettings, Feedback
from driftcli.drafters.self_feeding import Finished, Projected, RopeTables


@dataclass(frozen=True, slots=True)
class Eagle3Weights:
    """The tensors of a head; fc_norm is empty without per-stream norms."""

    fc: Tensor
    fc_norm: tuple[Tensor, ...]
    embedding_norm: Tensor
    hidden_norm: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    mlp_norm: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor
    final_norm: Tensor
    embedding: Tensor
    head: Tensor
    to_target: Tensor
    to_draft: Tensor


@dataclass(frozen=True)
class Eagle3:
    """A loaded head in the reading that its fields declare."""

    weights: Eagle3Weights
    boundaries: tuple[int, ...]
    head_dim: int
    eps: float
    residual: Feedback
    feedback: Feedback
    rope_config: LlamaConfig

    def capture(self, settings: DraftSettings) -> tuple[int, ...]:
        """Boundaries of the streams, in the order of fc's column blocks."""
        return settings.capture or self.boundaries

    def rope(self, rows: int) -> RopeTables:
        """RoPE tables for rows `0 .. rows - 1`."""
        device = self.weights.fc.device
        cos, sin = LlamaRotaryEmbedding(self.rope_config).to(device)(torch.empty(0, device=device), torch.arange(rows, device=device)[None])
        return RopeTables(cos[0].float(), sin[0].float())

    def fuse(self, streams: Mapping[int, Tensor], settings: DraftSettings) -> Tensor:
        """fc over the streams side by side, each normed first where the head has norms for them."""
        return F.linear(torch.cat(self._normed(streams, settings), dim=-1), self.weights.fc)

    def contributions(self, streams: Mapping[int, Tensor], settings: DraftSettings) -> list[Tensor]:
        """Each stream through its own columns of fc."""
        normed = self._normed(streams, settings)
        return [F.linear(part, block) for part, block in zip(normed, self.weights.fc.chunk(len(normed), dim=1), strict=True)]

    def _normed(self, streams: Mapping[int, Tensor], settings: DraftSettings) -> list[Tensor]:
        parts = [streams[boundary].to(self.weights.fc) for boundary in self.capture(settings)]
        return [self._norm(part, gain) for part, gain in zip(parts, self.weights.fc_norm, strict=True)] if self.weights.fc_norm else parts

    def project(self, tokens: Tensor, states: Tensor, rows: Tensor, rope: RopeTables, settings: DraftSettings) -> Projected:
        """Queries, keys and values of one step, RoPE applied."""
        w = self.weights
        normed = self._norm(states, w.hidden_norm)
        x = torch.cat([self._norm(F.embedding(tokens, w.embedding), w.embedding_norm), normed], dim=-1)
        cos, sin = rope.cos[rows], rope.sin[rows]
        residual = states if (settings.residual or self.residual) == "raw" else normed
        return Projected(_rotate(self._heads(x, w.q), cos, sin), _rotate(self._heads(x, w.k), cos, sin), self._heads(x, w.v), residual)

    def finish(self, residual: Tensor, attended: Tensor, settings: DraftSettings) -> Finished:
        """Output projection, MLP and final norm; the state is fed back raw or normed."""
        w = self.weights
        inner = residual + F.linear(attended, w.o)
        normed = self._norm(inner, w.mlp_norm)
        raw = inner + F.linear(F.silu(F.linear(normed, w.gate)) * F.linear(normed, w.up), w.down)
        output = self._norm(raw, w.final_norm)
        return Finished(output, raw if (settings.feedback or self.feedback) == "raw" else output)

    def logits(self, output: Tensor) -> Tensor:
        """Scores over the draft vocabulary."""
        return F.linear(output, self.weights.head).float()

    def to_target(self, guesses: Tensor) -> Tensor:
        """Target ids of draft ids."""
        return self.weights.to_target[guesses]

    def to_draft(self, tokens: Tensor) -> Tensor:
        """Draft ids of target ids, -1 outside the draft vocabulary."""
        return self.weights.to_draft[tokens]

    def _norm(self, x: Tensor, gain: Tensor) -> Tensor:
        return F.rms_norm(x.float(), gain.shape, gain.float(), self.eps).to(x.dtype)

    def _heads(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight).view(len(x), -1, self.head_dim).transpose(0, 1)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE on (head, step, size) with the halves rotated, as Llama does."""
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)
