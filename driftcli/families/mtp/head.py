"""An MTP head: one decoder layer over fc(norm(embedding), norm(state)), the state being the target's last hidden one or its own.

    x = fc(concat(norm(e), norm(h)));  z = layer(x);  n = norm(z)
    logits = the target's lm_head(n);  feedback = n, or z

Source: DeepSeek-V3 (arXiv:2412.19437), section 2.2; Qwen3-Next and Qwen3.5 as vLLM, SGLang and transformers compute them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig

from driftcli.conditions import Feedback, Wiring
from driftcli.families.layers import DecoderLayer, Linear, rms_norm
from driftcli.families.others import Others
from driftcli.families.rotary import rope_tables
from driftcli.families.self_feeding import Finished, Flow, RopeTables


@dataclass(frozen=True)
class Mtp:
    """A loaded head; `boundary` is the target's stream that it reads."""

    boundary: int
    embedding_gain: Tensor
    hidden_gain: Tensor
    fusion: Linear
    layers: tuple[DecoderLayer, ...]
    final_gain: Tensor
    embedding: Tensor
    head: Tensor
    eps: float
    feedback: Feedback
    rope_config: LlamaConfig
    others: Others = field(default_factory=Others)

    @property
    def boundaries(self) -> tuple[int, ...]:
        """The one stream that it reads."""
        return (self.boundary,)

    def wired(self, wiring: Wiring) -> Mtp:
        """The same weights, put together otherwise; KeyError for a rotation that is not among its `others`."""
        made = replace(
            self,
            boundary=wiring.capture[0] if wiring.capture else self.boundary,
            feedback=wiring.feedback or self.feedback,
            rope_config=self.others.ropes[wiring.rope] if wiring.rope else self.rope_config,
        )
        every, one = wiring.ones == "every", torch.ones_like
        return replace(
            made,
            embedding_gain=one(self.embedding_gain) if every or wiring.ones == "embedding" else self.embedding_gain,
            hidden_gain=one(self.hidden_gain) if every or wiring.ones == "hidden" else self.hidden_gain,
            layers=tuple(layer.at_one() for layer in self.layers) if every or wiring.ones == "mlp" else self.layers,
            final_gain=one(self.final_gain) if every or wiring.ones == "final" else self.final_gain,
        )

    def rope(self, rows: int) -> RopeTables:
        """RoPE tables for rows `0 .. rows - 1`."""
        return rope_tables(self.rope_config, rows, self.head.device)

    def fuse(self, streams: Mapping[int, Tensor]) -> Tensor:
        """The target's hidden state as it is."""
        return streams[self.boundary].to(self.head)

    def contributions(self, streams: Mapping[int, Tensor]) -> list[Tensor]:
        """The one stream."""
        return [self.fuse(streams)]

    def embed(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """Rows of the target's embedding."""
        return F.embedding(tokens, self.embedding)

    def begin(self, embedded: Tensor, states: Tensor) -> Flow:
        """fc over embedding and state, each normed."""
        normed = [rms_norm(embedded, self.embedding_gain, self.eps), rms_norm(states, self.hidden_gain, self.eps)]
        return self.layers[0].enter(self.fusion(torch.cat(normed, dim=-1)))

    def finish(self, stream: Tensor) -> Finished:
        """The final norm; the state is fed back raw or normed."""
        normed = rms_norm(stream, self.final_gain, self.eps)
        return Finished(normed, stream if self.feedback == "raw" else normed)

    def logits(self, output: Tensor) -> Tensor:
        """Scores over the target's vocabulary."""
        return F.linear(output, self.head).float()

    def to_target(self, guesses: Tensor) -> Tensor:
        """Draft ids are the target's."""
        return guesses

    def to_draft(self, tokens: Tensor) -> Tensor:
        """Draft ids are the target's."""
        return tokens
