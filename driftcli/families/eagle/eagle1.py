"""EAGLE-1, EAGLE-2 and HASS: decoder layers over fc(embedding, feature), the feature being the target's last hidden state or its own.

    x = fc(concat(e, f));  z = layers(x)                 the first layer norms nothing in front of its attention
    logits = the target's lm_head(z);  feedback = z

Sources: Li et al. 2024 (arXiv:2401.15077, arXiv:2406.16858); Zhang et al. 2024 (arXiv:2408.15766).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig

from driftcli.conditions import Wiring
from driftcli.families.layers import DecoderLayer, Linear
from driftcli.families.others import Others
from driftcli.families.rotary import rope_of_all, rope_tables
from driftcli.families.self_feeding import Finished, Flow, RopeTables


@dataclass(frozen=True)
class Eagle:
    """A loaded head in one reading of its checkpoint; `boundary` is the stream after the target's final norm."""

    boundary: int
    fusion: Linear
    layers: tuple[DecoderLayer, ...]
    embedding: Tensor
    head: Tensor
    rope_config: LlamaConfig
    others: Others = field(default_factory=Others)

    @property
    def mask(self) -> None:
        """None: it feeds on its own state."""

    @property
    def boundaries(self) -> tuple[int, ...]:
        """The one stream that it reads."""
        return (self.boundary,)

    def wired(self, wiring: Wiring) -> Eagle:
        """The same weights, put together otherwise: its state is fed back raw, so only stream, embedding and rotation are open."""
        return replace(
            self,
            boundary=wiring.capture[0] if wiring.capture else self.boundary,
            embedding=self.others.embeddings[wiring.embedding] if wiring.embedding else self.embedding,
            rope_config=self.others.ropes[wiring.rope] if wiring.rope else self.rope_config,
        )

    def rope(self, rows: int) -> RopeTables:
        """RoPE tables for rows `0 .. rows - 1`."""
        return rope_tables(self.rope_config, rows, self.head.device)

    def ropes(self, rows: Sequence[int]) -> RopeTables:
        """The same of several texts."""
        return rope_of_all(self.rope_config, rows, self.head.device)

    def fuse(self, streams: Mapping[int, Tensor]) -> Tensor:
        """The target's feature as it is."""
        return streams[self.boundary].to(self.head)

    def contributions(self, streams: Mapping[int, Tensor]) -> list[Tensor]:
        """The one stream."""
        return [self.fuse(streams)]

    def embed(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """Rows of its embedding."""
        return F.embedding(tokens, self.embedding)

    def begin(self, embedded: Tensor, states: Tensor) -> Flow:
        """fc over embedding and feature."""
        return self.layers[0].enter(self.fusion(torch.cat([embedded, states], dim=-1)))

    def finish(self, stream: Tensor) -> Finished:
        """The stream is both what the head reads and what is fed back."""
        return Finished(stream, stream)

    def logits(self, output: Tensor) -> Tensor:
        """Scores over the target's vocabulary."""
        return F.linear(output, self.head).float()

    def to_target(self, guesses: Tensor) -> Tensor:
        """Draft ids are the target's."""
        return guesses

    def to_draft(self, tokens: Tensor) -> Tensor:
        """Draft ids are the target's."""
        return tokens
