"""A block drafter: one pass over an anchor and mask tokens guesses a block, each row reading the target's streams of all that is verified.

    c = norm(fc(streams))                                  a row for every verified position before the anchor, as keys and values alone
    y = embedding(anchor), embedding(mask), ...            the block, whose rows see c and, unless causal, one another
    logits = head(norm(layers(y)))                         of the rows behind the anchor, each at its own position, or of all for the next
                                                           (DSpark), corrected by the token before where there is a correction

Sources: DFlash and DFlash2 as z-lab, speculators and vLLM compute them, DSpark as DeepSpec, speculators and vLLM do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig

from driftcli.conditions import Wiring
from driftcli.families.block.convolution import Convolution
from driftcli.families.block.correction import Confidence, Correction
from driftcli.families.layers import DecoderLayer, rms_norm
from driftcli.families.others import Others
from driftcli.families.rotary import rope_of_all, rope_tables
from driftcli.families.self_feeding import Flow, RopeTables
from driftcli.families.vocabulary import DraftVocabulary


@dataclass(frozen=True, slots=True)
class BlockLayer:
    """A decoder layer, and whether a row of the block sees those behind it alone. Its window counts a query's own row, or, counted from
    the anchor, the context rows alone. around: convolutions around attention and MLP, absent without.
    """

    layer: DecoderLayer
    causal: bool
    around: tuple[Convolution, Convolution] | None = None

    def enter(self, stream: Tensor, rows: int) -> Flow:
        """Blocks of so many rows, (step, width), normed for the attention; taps for what it gives stand beside the residual stream."""
        flow = self.layer.enter(stream)
        if self.around is None:
            return flow
        inputs, behind = self.around[0].prepare(flow.inputs, rows)
        return Flow(inputs, torch.cat([stream, behind], dim=-1))

    def leave(self, residual: Tensor, attended: Tensor, rows: int) -> Tensor:
        """The residual stream after the layer; attended: (step, head * value size)."""
        if self.around is None:
            return self.layer.leave(residual, attended)
        layer, (attention, mlp) = self.layer, self.around
        assert layer.mlp_gain is not None
        width = len(layer.attention.o.weight)
        stream, behind = residual[..., :width], residual[..., width:]
        inner = stream + attention.finish(layer.attention.o(attended), behind, rows)
        inputs, taps = mlp.prepare(rms_norm(inner, layer.mlp_gain, layer.eps), rows)
        return inner + mlp.finish(layer.mlp(inputs), taps, rows)

    def wired(self, wiring: Wiring, window: int | None) -> BlockLayer:
        """The layer put together otherwise; window: the config's."""
        layer = self.layer if wiring.rotation is None else self.layer.turned_as(wiring.rotation)
        if wiring.window is not None:
            layer = replace(layer, window=window if wiring.window == "configured" else None)
        if wiring.eps is not None:
            layer = layer.normed_with(wiring.eps)
        return replace(self, layer=layer, causal=self.causal if wiring.seen is None else wiring.seen == "causal")


@dataclass(frozen=True)
class Block:
    """A loaded drafter; `boundaries` are the target's streams that it reads, in the order of the columns of `fusion`.

    mask: the token of the rows that guess. block_size: rows of a block in training; as_trained: it is run with as many
    whatever is drafted. scales: of embeddings, of scores, and the bound on scores, 0 for none. anchor_first: a row guesses the place behind
    it, the anchor's row too. correction: what makes scores depend on the token before. confidence: what says how likely a guess is
    accepted. window: that the config has, whether or not a layer keeps it.
    """

    boundaries: tuple[int, ...]
    fusion: Tensor
    hidden_gain: Tensor
    layers: tuple[BlockLayer, ...]
    final_gain: Tensor
    embedding: Tensor
    mask: int
    head: Tensor
    vocabulary: DraftVocabulary
    eps: float
    rope_config: LlamaConfig
    block_size: int
    as_trained: bool
    scales: tuple[float, float, float]
    anchor_first: bool = False
    correction: Correction | None = None
    confidence: Confidence | None = None
    window: int | None = None
    others: Others = field(default_factory=Others)

    @property
    def guesses(self) -> int:
        """Draft tokens of a block as it was trained; those of no other are known to be any good."""
        return self.block_size - (not self.anchor_first)

    def rows(self, depth: int) -> int:
        """Rows of a block that drafts so many tokens."""
        return self.block_size if self.as_trained else depth + (not self.anchor_first)

    def guessing(self, depth: int) -> int:
        """The row that guesses the token of a depth."""
        return depth - self.anchor_first

    def wired(self, wiring: Wiring) -> Block:
        """The same weights, put together otherwise; KeyError for a rotation or embedding that is not among its `others`."""
        picked = self.others.target_head if wiring.head == "target's" else None
        return replace(
            self,
            boundaries=wiring.capture or self.boundaries,
            rope_config=self.others.ropes[wiring.rope] if wiring.rope else self.rope_config,
            layers=tuple(one.wired(wiring, self.window) for one in self.layers),
            mask=self.mask if wiring.mask is None else wiring.mask,
            embedding=self.others.embeddings[wiring.embedding] if wiring.embedding else self.embedding,
            head=self.head if picked is None else picked[self.vocabulary.to_target],
            anchor_first=self.anchor_first if wiring.slots is None else wiring.slots == "the place behind them",
            eps=self.eps if wiring.eps is None else wiring.eps,
            correction=self.correction if wiring.bias is None else None,
        )

    def rope(self, rows: int) -> RopeTables:
        """RoPE tables for rows `0 .. rows - 1`."""
        return rope_tables(self.rope_config, rows, self.head.device)

    def ropes(self, rows: Sequence[int]) -> RopeTables:
        """The same of several texts, one text's rows behind the other's, each fixed by its own."""
        return rope_of_all(self.rope_config, rows, self.head.device)

    def fuse(self, streams: Mapping[int, Tensor]) -> Tensor:
        """The fused streams of every row, (row, target width) each -> (row, width)."""
        return F.linear(torch.cat([streams[boundary].to(self.head) for boundary in self.boundaries], dim=-1), self.fusion)

    def contributions(self, streams: Mapping[int, Tensor]) -> list[Tensor]:
        """What each stream adds to the fused input, in capture order; they sum to `fuse`."""
        parts = self.fusion.chunk(len(self.boundaries), dim=1)
        return [F.linear(streams[boundary].to(self.head), part) for boundary, part in zip(self.boundaries, parts, strict=True)]

    def context(self, fused: Tensor) -> Tensor:
        """What the layers make keys and values of, (row, width), without a layer's own norm."""
        return rms_norm(fused, self.hidden_gain, self.eps)

    def embed(self, anchors: Tensor, rows: int) -> Tensor:
        """Blocks of so many rows behind the tokens of anchors, (anchor,) -> (anchor, row, width)."""
        first = F.embedding(anchors, self.embedding)[:, None]
        return torch.cat([first, self.embedding[self.mask].expand(len(anchors), rows - 1, -1)], dim=1) * self.scales[0]

    def finish(self, stream: Tensor) -> Tensor:
        """What the output head reads."""
        return rms_norm(stream, self.final_gain, self.eps)

    def logits(self, output: Tensor) -> Tensor:
        """Scores over the draft vocabulary in float32, (step, draft vocabulary)."""
        _, scale, bound = self.scales
        found = F.linear(output, self.head).float() * scale
        return torch.tanh(found / bound) * bound if bound else found

    def to_target(self, guesses: Tensor) -> Tensor:
        """Target ids of draft ids."""
        return self.vocabulary.to_target[guesses]

    def to_draft(self, tokens: Tensor) -> Tensor:
        """Draft ids of target ids, -1 where the draft vocabulary lacks the token."""
        return self.vocabulary.to_draft[tokens]
