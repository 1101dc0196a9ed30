"""An MTP head: one decoder layer over fc(norm(embedding), norm(state)), the state being the target's last hidden one or its own.

    x = fc(concat(norm(e), norm(h)));  z = layer(x);  n = norm(z)
    logits = the target's lm_head(n);  feedback = n, or z

Sources: DeepSeek-V3 (arXiv:2412.19437), section 2.2; each family as vLLM, SGLang and transformers compute it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig

from driftcli.conditions import Feedback, HalvesOrder, Wiring
from driftcli.families.layers import GAINS, DecoderLayer, GroupedAttention, Linear, rms_norm
from driftcli.families.others import Others
from driftcli.families.rotary import rope_of_all, rope_tables
from driftcli.families.self_feeding import Finished, Flow, RopeTables

AROUND = ("embedding_gain", "hidden_gain", "final_gain")
INSIDE = ("q_norm", "k_norm")


@dataclass(frozen=True)
class Mtp:
    """A loaded module; `boundary` is the target's stream that it reads. rope_config: absent where nothing turns; rotated: how many of a
    head's numbers do. final_gain: absent without a final norm. one_plus: gains were stored less one.
    """

    boundary: int
    embedding_gain: Tensor
    hidden_gain: Tensor
    fusion: Linear
    layer: DecoderLayer
    final_gain: Tensor | None
    embedding: Tensor
    head: Tensor
    eps: float
    feedback: Feedback
    rope_config: LlamaConfig | None
    one_plus: bool = False
    order: HalvesOrder = "embedding-first"
    blanks_first: bool = False
    others: Others = field(default_factory=Others)

    @property
    def mask(self) -> None:
        """None: it feeds on its own state."""

    @property
    def layers(self) -> tuple[DecoderLayer, ...]:
        """Its one layer."""
        return (self.layer,)

    @property
    def boundaries(self) -> tuple[int, ...]:
        """The one stream that it reads."""
        return (self.boundary,)

    def wired(self, wiring: Wiring) -> Mtp:
        """The same weights, put together otherwise; KeyError for a rotation that is not among its `others`."""
        asked = wiring.turned or wiring.rope
        made = replace(
            self,
            boundary=wiring.capture[0] if wiring.capture else self.boundary,
            feedback=wiring.feedback or self.feedback,
            rope_config=self.others.ropes[asked] if asked else self.rope_config,
            order=wiring.order or self.order,
            blanks_first=wiring.first_row == "zeroed" if wiring.first_row else self.blanks_first,
            layer=self.layer if wiring.rotation is None else self.layer.turned_as(wiring.rotation),
        )
        if wiring.gains is not None and (wiring.gains == "one-plus") is not self.one_plus:
            made = made._shifted(1 if wiring.gains == "one-plus" else -1)
        every, one = wiring.ones == "every", torch.ones_like
        return replace(
            made,
            embedding_gain=one(made.embedding_gain) if every or wiring.ones == "embedding" else made.embedding_gain,
            hidden_gain=one(made.hidden_gain) if every or wiring.ones == "hidden" else made.hidden_gain,
            layer=made.layer.at_one() if every or wiring.ones == "mlp" else made.layer,
            final_gain=one(gain) if (gain := made.final_gain) is not None and (every or wiring.ones == "final") else made.final_gain,
        )

    def _shifted(self, by: int) -> Mtp:
        """With every gain raised, those of queries and keys too; a latent's are plain in every family."""
        attention = self.layer.attention
        if isinstance(attention, GroupedAttention):
            attention = replace(attention, **_raised(attention, INSIDE, by))  # type: ignore[arg-type]
        layer = replace(self.layer, attention=attention, **_raised(self.layer, GAINS, by))  # type: ignore[arg-type]
        return replace(self, layer=layer, one_plus=not self.one_plus, **_raised(self, AROUND, by))  # type: ignore[arg-type]

    def rope(self, rows: int) -> RopeTables:
        """RoPE tables for rows `0 .. rows - 1`."""
        if self.rope_config is None:
            nothing = torch.zeros(rows, 0, device=self.head.device)
            return RopeTables(nothing, nothing)
        return rope_tables(self.rope_config, rows, self.head.device)

    def ropes(self, rows: Sequence[int]) -> RopeTables:
        """The same of several texts."""
        return self.rope(sum(rows)) if self.rope_config is None else rope_of_all(self.rope_config, rows, self.head.device)

    def fuse(self, streams: Mapping[int, Tensor]) -> Tensor:
        """The target's hidden state as it is."""
        return streams[self.boundary].to(self.head)

    def contributions(self, streams: Mapping[int, Tensor]) -> list[Tensor]:
        """The one stream."""
        return [self.fuse(streams)]

    def embed(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """Rows of the target's embedding, that of row 0 zeroed where the system does so."""
        found = F.embedding(tokens, self.embedding)
        return found * (rows > 0)[:, None] if self.blanks_first else found

    def begin(self, embedded: Tensor, states: Tensor) -> Flow:
        """fc over embedding and state, each normed."""
        halves = [rms_norm(embedded, self.embedding_gain, self.eps), rms_norm(states, self.hidden_gain, self.eps)]
        ordered = halves if self.order == "embedding-first" else halves[::-1]
        return self.layer.enter(self.fusion(torch.cat(ordered, dim=-1)))

    def finish(self, stream: Tensor) -> Finished:
        """The final norm; the state is fed back raw or normed."""
        normed = stream if self.final_gain is None else rms_norm(stream, self.final_gain, self.eps)
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


@dataclass(frozen=True)
class MtpModules:
    """A head with weights of its own for every depth: the module of depth `d` reads what that of `d - 1` gave at the same row."""

    modules: tuple[Mtp, ...]

    @property
    def boundaries(self) -> tuple[int, ...]:
        """The one stream that the first reads."""
        return self.modules[0].boundaries

    def wired(self, wiring: Wiring) -> MtpModules:
        """Every module put together otherwise."""
        return MtpModules(tuple(module.wired(wiring) for module in self.modules))

    def fuse(self, streams: Mapping[int, Tensor]) -> Tensor:
        """The target's hidden state as it is."""
        return self.modules[0].fuse(streams)

    def contributions(self, streams: Mapping[int, Tensor]) -> list[Tensor]:
        """The one stream."""
        return self.modules[0].contributions(streams)


def _raised(part: object, names: Sequence[str], by: int) -> dict[str, Tensor]:
    return {name: gain + by for name in names if (gain := getattr(part, name)) is not None}
