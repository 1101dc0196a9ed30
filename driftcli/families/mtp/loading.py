"""From a declaration and its tensors to an MTP head that drafts for the target beside which it lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from driftcli.conditions import Wiring
from driftcli.domain import SYSTEMS, Sourced, System
from driftcli.families.carried import mtp_tensors
from driftcli.families.layers import DecoderLayer, GatedMlp, GroupedAttention, Linear
from driftcli.families.mtp.declaration import MtpDeclaration
from driftcli.families.mtp.head import Mtp
from driftcli.families.rope_config import rope_config
from driftcli.sources.tensors import read_some, require_bounded
from driftcli.target.language_model import LanguageModel


def read_mtp(d: MtpDeclaration, target: LanguageModel, system: System | None = None) -> tuple[Mtp, dict[str, Sourced]]:
    """The drafter and its record; raises FormatError for tensors that are not finite."""
    like = target.head
    held = {name: tensor.to(like) for name, tensor in read_some(d.checkpoint.source, mtp_tensors(d.checkpoint.tensors)).items()}
    require_bounded(f"{d.checkpoint.source.name} as {like.dtype}", held)
    drafter = Mtp(
        boundary=d.layers + 1,
        embedding_gain=_gain(d, held, d.kind.names["embedding_norm"]),
        hidden_gain=_gain(d, held, d.kind.names["hidden_norm"]),
        fusion=Linear(held[d.kind.names["fusion"]]),
        layers=(_layer(d, held),),
        final_gain=_gain(d, held, d.kind.names["final_norm"]),
        embedding=target.embedding.to(like),
        head=like,
        eps=d.eps,
        feedback=d.kind.feedback[system or SYSTEMS[0]],
        rope_config=rope_config(d.rope, d.turned, d.target.positions or 2048, None, d.checkpoint.source.name),
    )
    return drafter, {**d.record(system), "embedding": Sourced("target's", "default:all"), "head": Sourced("target's", "default:all")}


def alternatives(d: MtpDeclaration, drafter: Mtp) -> tuple[Wiring, ...]:
    """What the files leave open: the state handed in before the target's final norm, the state fed back on the other side of the head's."""
    other = replace(Wiring(), feedback="raw" if drafter.feedback == "normed" else "normed")
    return (Wiring(capture=(d.layers,)), other)


def _gain(d: MtpDeclaration, held: Mapping[str, Tensor], name: str) -> Tensor:
    return held[name] + 1 if d.kind.one_plus else held[name]


def _layer(d: MtpDeclaration, held: Mapping[str, Tensor]) -> DecoderLayer:
    at = d.kind.layer

    def weight(name: str) -> Tensor:
        return held[f"{at}{name}.weight"]

    by_head = weight("self_attn.q_proj").view(d.heads, 2, d.size, -1)  # each head's query rows, then its gate's
    attention = GroupedAttention(
        Linear(by_head[:, 0].flatten(0, 1)),
        Linear(weight("self_attn.k_proj")),
        Linear(weight("self_attn.v_proj")),
        Linear(weight("self_attn.o_proj")),
        d.size,
        d.eps,
        _gain(d, held, f"{at}self_attn.q_norm.weight"),
        _gain(d, held, f"{at}self_attn.k_norm.weight"),
    )
    gate, up, down = (weight(f"mlp.{name}_proj") for name in ("gate", "up", "down"))
    entered, behind = (_gain(d, held, f"{at}{name}.weight") for name in ("input_layernorm", "post_attention_layernorm"))
    return DecoderLayer(attention, GatedMlp(gate, up, down), d.eps, entered, behind, gate=Linear(by_head[:, 1].flatten(0, 1)))
