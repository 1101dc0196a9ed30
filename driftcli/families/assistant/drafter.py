"""A Gemma 4 assistant: a few layers whose queries attend to what the target keeps, between two projections of the target's width.

    x = pre(concat(e * sqrt(width), h));  n = norm(layers(x))
    logits = head(n), of the likeliest clusters of tokens where these are ordered;  feedback = post(n)

h is the target's last state, then the assistant's own; e the target's embedding. Every query of a chain stands at one position and sees the
rows in front of its anchor: the assistant adds no keys. Sources: as `driftcli.families.assistant.declaration`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig

from driftcli.conditions import Place, Wiring
from driftcli.families.layers import DecoderLayer, Linear, rms_norm, rotate
from driftcli.families.rotary import rope_of_all, rope_tables
from driftcli.families.self_feeding import Finished, Flow, RopeTables

LEAST = torch.finfo(torch.float32).min  # of a token whose cluster is not scored


@dataclass(frozen=True)
class TargetKeys:
    """What makes keys and values of the target's stream in front of one of its layers, as that layer does; v: absent where keys, before
    norm and rotation, stand for values.
    """

    boundary: int
    gain: Tensor
    k: Linear
    v: Linear | None
    k_norm: Tensor
    eps: float
    rope_config: LlamaConfig

    def of(self, stream: Tensor, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Keys and values (key head, row, size) of several texts' rows, one text's behind the other's; stream: (row, width)."""
        return self.turned(stream, rope_of_all(self.rope_config, rows, stream.device))

    def turned(self, stream: Tensor, tables: RopeTables) -> tuple[Tensor, Tensor]:
        """The same of any rows, by RoPE tables of just these."""
        inputs, size = rms_norm(stream, self.gain, self.eps), len(self.k_norm)
        key = self.k(inputs).view(len(inputs), -1, size).transpose(0, 1)
        value = key if self.v is None else self.v(inputs).view(len(inputs), -1, size).transpose(0, 1)
        turned = rotate(rms_norm(key, self.k_norm, self.eps), tables.cos, tables.sin)
        return turned, rms_norm(value, torch.ones_like(self.k_norm), self.eps)


@dataclass(frozen=True, slots=True)
class Clusters:
    """Tokens in clusters of one size, of which the likeliest are scored. centroids: (cluster, width); tokens: (cluster, token)."""

    centroids: Tensor
    tokens: Tensor
    scored: int

    def kept(self, scores: Tensor, output: Tensor) -> Tensor:
        """Scores (step, vocabulary), those of tokens in other clusters ruled out."""
        best = F.linear(output, self.centroids).topk(self.scored, dim=-1).indices
        among = self.tokens[best].flatten(1)
        return torch.full_like(scores, LEAST).scatter(1, among, scores.gather(1, among))


@dataclass(frozen=True)
class Assistant:
    """A loaded assistant; boundary: of the target's state that it is handed. kinds: of its layers; ropes: how queries of each kind turn.

    embedding: the target's; place: at whose position queries stand. softcap: bounds the scores. clusters: absent where all are scored.
    """

    boundary: int
    keys: Mapping[str, TargetKeys]
    embedding: Tensor
    embedding_scale: float
    pre: Linear
    post: Linear
    layers: tuple[DecoderLayer, ...]
    kinds: tuple[str, ...]
    final_gain: Tensor
    head: Tensor
    eps: float
    ropes: Mapping[str, LlamaConfig]
    place: Place
    softcap: float | None = None
    clusters: Clusters | None = field(default=None)

    @property
    def boundaries(self) -> tuple[int, ...]:
        """The one stream that it is handed."""
        return (self.boundary,)

    @property
    def read(self) -> tuple[int, ...]:
        """All streams of the target that are needed, those that its keys are made of too."""
        return (self.boundary, *(one.boundary for one in self.keys.values()))

    def wired(self, wiring: Wiring) -> Assistant:
        """The same weights, handed another state, or asked at another position."""
        return replace(self, boundary=wiring.capture[0] if wiring.capture else self.boundary, place=wiring.position or self.place)

    def fuse(self, streams: Mapping[int, Tensor]) -> Tensor:
        """The target's hidden state as it is."""
        return streams[self.boundary].to(self.head)

    def contributions(self, streams: Mapping[int, Tensor]) -> list[Tensor]:
        """The one stream."""
        return [self.fuse(streams)]

    def tables(self, positions: int) -> dict[str, RopeTables]:
        """How queries of each kind turn at so many positions."""
        return {kind: rope_tables(config, positions, self.head.device) for kind, config in self.ropes.items()}

    def embed(self, tokens: Tensor) -> Tensor:
        """Rows of the target's embedding as it scales them, (step,) -> (step, target width)."""
        return F.embedding(tokens, self.embedding) * torch.tensor(self.embedding_scale).to(self.embedding)

    def begin(self, embedded: Tensor, states: Tensor) -> Flow:
        """Embedding and state side by side through the first projection, in front of the first layer."""
        return self.layers[0].enter(self.pre(torch.cat([embedded, states], dim=-1)))

    def finish(self, stream: Tensor) -> Finished:
        """The final norm, and the state in the target's width."""
        normed = rms_norm(stream, self.final_gain, self.eps)
        return Finished(normed, self.post(normed))

    def logits(self, output: Tensor) -> Tensor:
        """Scores over the target's vocabulary."""
        scores = F.linear(output, self.head).float()
        scores = scores if self.clusters is None else self.clusters.kept(scores, output)
        return scores if self.softcap is None else torch.tanh(scores / self.softcap) * self.softcap
