"""EAGLE-3 and EAGLE 3.1: decoder layers over (embedding, state), fed by several of the target's streams.

    g = fc(norm?(concat_j norm_j?(S_j)))                 first state, from the target
    a = residual + Attn(concat(norm(e), norm(h)))        residual: h raw, or as normed
    z = a + MLP(norm(a));  n = norm(z)                   further layers are plain decoder layers on z
    logits = lm_head(n);   feedback = z (EAGLE-3) or n (EAGLE 3.1)

P-EAGLE has no feedback: the rows behind a chain's first read a mask token and learned streams, all in one pass.

Sources: Li et al. 2025 (arXiv:2503.01840); Eldenk et al. (arXiv:2605.09992); P-EAGLE as speculators 0.9 and vLLM compute it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig

from driftcli.conditions import Feedback, Norm, Wiring
from driftcli.families.layers import DecoderLayer, rms_norm
from driftcli.families.others import Others
from driftcli.families.rotary import rope_of_all, rope_tables
from driftcli.families.self_feeding import Finished, Flow, MaskRow, RopeTables
from driftcli.families.vocabulary import DraftVocabulary


@dataclass(frozen=True, slots=True)
class Fusion:
    """From the target's streams to the first state: norms in front, over all or for each, and fc; all absent for one plain stream."""

    joint_norm: Tensor | None
    stream_norms: tuple[Tensor, ...]
    weight: Tensor | None
    eps: float

    def normed(self, streams: list[Tensor]) -> list[Tensor]:
        """The streams as fc reads them; the joint norm comes first, as in vLLM, SGLang and speculators."""
        if self.joint_norm is not None:
            streams = list(rms_norm(torch.cat(streams, dim=-1), self.joint_norm, self.eps).chunk(len(streams), dim=-1))
        if self.stream_norms:
            streams = [rms_norm(stream, gain, self.eps) for stream, gain in zip(streams, self.stream_norms, strict=True)]
        return streams

    def at_one(self) -> Fusion:
        """Its norms with gain 1."""
        joint = None if self.joint_norm is None else torch.ones_like(self.joint_norm)
        return replace(self, joint_norm=joint, stream_norms=tuple(map(torch.ones_like, self.stream_norms)))


@dataclass(frozen=True)
class Eagle3:
    """A loaded head in one reading of its checkpoint; hidden_gains norm the state in their order. shared_head: its head's rows are the
    target's, picked by the draft vocabulary. softcap: bounds the scores, as Gemma does. masked: the token and the streams (1, streams *
    target width) that the rows behind the first read, absent where it feeds on its own state; trained_depths: how many tokens these were
    trained to guess, None where that is not known.
    """

    boundaries: tuple[int, ...]
    fusion: Fusion
    embedding_gain: Tensor
    hidden_gains: tuple[Tensor, ...]
    layers: tuple[DecoderLayer, ...]
    final_gain: Tensor
    embedding: Tensor
    head: Tensor
    vocabulary: DraftVocabulary
    eps: float
    residual: Feedback
    logits_from: Feedback
    feedback: Feedback
    rope_config: LlamaConfig
    shared_head: bool = False
    softcap: float | None = None
    embedding_scale: float = 1.0
    masked: tuple[int, Tensor] | None = None
    trained_depths: int | None = None
    others: Others = field(default_factory=Others)

    @cached_property
    def mask(self) -> MaskRow | None:
        """The mask's token, and the state that fusion makes of its streams."""
        if self.masked is None:
            return None
        token, streams = self.masked
        return MaskRow(token, self._fused(self.fusion.normed(list(streams.chunk(len(self.boundaries), dim=-1)))))

    def wired(self, wiring: Wiring) -> Eagle3:
        """The same weights, put together otherwise; KeyError for what is not among its `others`."""
        vocabulary = self.others.vocabularies[wiring.vocabulary] if wiring.vocabulary else self.vocabulary
        picked = wiring.head == "target's" or (self.shared_head and wiring.vocabulary is not None)
        made = replace(
            self,
            boundaries=wiring.capture or self.boundaries,
            feedback=wiring.feedback or self.feedback,
            residual=wiring.residual or self.residual,
            vocabulary=vocabulary,
            head=self.others.target_head[vocabulary.to_target] if picked and self.others.target_head is not None else self.head,
            embedding=self.others.embeddings[wiring.embedding] if wiring.embedding else self.embedding,
            rope_config=self.others.ropes[wiring.rope] if wiring.rope else self.rope_config,
            masked=self.masked if self.masked is None or wiring.mask is None else (wiring.mask, self.masked[1]),
        )
        return made._at_one(wiring.ones) if wiring.ones else made

    def _at_one(self, norm: Norm) -> Eagle3:
        """The head with the gains of some norms at 1."""
        every, one = norm == "every", torch.ones_like
        return replace(
            self,
            embedding_gain=one(self.embedding_gain) if every or norm == "embedding" else self.embedding_gain,
            hidden_gains=tuple(map(one, self.hidden_gains)) if every or norm == "hidden" else self.hidden_gains,
            fusion=self.fusion.at_one() if every or norm == "fusion" else self.fusion,
            layers=tuple(layer.at_one() for layer in self.layers) if every or norm == "mlp" else self.layers,
            final_gain=one(self.final_gain) if every or norm == "final" else self.final_gain,
        )

    def rope(self, rows: int) -> RopeTables:
        """RoPE tables for rows `0 .. rows - 1`."""
        return rope_tables(self.rope_config, rows, self.head.device)

    def ropes(self, rows: Sequence[int]) -> RopeTables:
        """The same of several texts."""
        return rope_of_all(self.rope_config, rows, self.head.device)

    def fuse(self, streams: Mapping[int, Tensor]) -> Tensor:
        """fc over the streams side by side, normed first where the head has norms for them."""
        return self._fused(self._normed(streams))

    def _fused(self, normed: list[Tensor]) -> Tensor:
        joined = torch.cat(normed, dim=-1)
        return joined if self.fusion.weight is None else F.linear(joined, self.fusion.weight)

    def contributions(self, streams: Mapping[int, Tensor]) -> list[Tensor]:
        """Each stream through its own columns of fc."""
        normed = self._normed(streams)
        if self.fusion.weight is None:
            return normed
        return [F.linear(part, block) for part, block in zip(normed, self.fusion.weight.chunk(len(normed), dim=1), strict=True)]

    def _normed(self, streams: Mapping[int, Tensor]) -> list[Tensor]:
        return self.fusion.normed([streams[boundary].to(self.head) for boundary in self.boundaries])

    def embed(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """Rows of its embedding, scaled where the family scales them."""
        rows = F.embedding(tokens, self.embedding)
        return rows if self.embedding_scale == 1 else rows * self.embedding_scale

    def begin(self, embedded: Tensor, states: Tensor) -> Flow:
        """Embedding and state side by side, each normed."""
        normed = states
        for gain in self.hidden_gains:
            normed = rms_norm(normed, gain, self.eps)
        residual = states if self.residual == "raw" else normed
        return Flow(torch.cat([rms_norm(embedded, self.embedding_gain, self.eps), normed], dim=-1), residual)

    def finish(self, stream: Tensor) -> Finished:
        """The final norm; the state is fed back raw or normed."""
        normed = rms_norm(stream, self.final_gain, self.eps)
        return Finished(normed if self.logits_from == "normed" else stream, stream if self.feedback == "raw" else normed)

    def logits(self, output: Tensor) -> Tensor:
        """Scores over the draft vocabulary."""
        scores = F.linear(output, self.head).float()
        return scores if self.softcap is None else torch.tanh(scores / self.softcap) * self.softcap

    def to_target(self, guesses: Tensor) -> Tensor:
        """Target ids of draft ids."""
        return self.vocabulary.to_target[guesses]

    def to_draft(self, tokens: Tensor) -> Tensor:
        """Draft ids of target ids, -1 outside the draft vocabulary."""
        return self.vocabulary.to_draft[tokens]
