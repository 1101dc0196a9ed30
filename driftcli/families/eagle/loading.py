"""From a declaration and its tensors to a drafter of the EAGLE family, in one system's reading.

Missing embeddings or head come from the target, as every server does it; a gain that a server looks for under another name is 1 there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import LlamaConfig

from driftcli.domain import Sourced, System
from driftcli.families.eagle.alternatives import other_maps, other_ropes
from driftcli.families.eagle.anatomy import AROUND_MLP, MASK_STREAMS
from driftcli.families.eagle.declaration import Declaration
from driftcli.families.eagle.dissection import MAPS
from driftcli.families.eagle.eagle1 import Eagle
from driftcli.families.eagle.eagle3 import Eagle3, Fusion
from driftcli.families.eagle.readings import Reading
from driftcli.families.layers import Attention, DecoderLayer, GatedMlp, GroupedAttention, LatentAttention, Linear
from driftcli.families.others import Others
from driftcli.families.rope import latent_scale
from driftcli.families.rope_config import rope_config
from driftcli.families.unpacking import read_whole
from driftcli.families.vocabulary import DraftVocabulary
from driftcli.sources.tensors import require_bounded
from driftcli.target.target import Target

SHARED = Sourced("target's", "default:vLLM, SGLang and SafeAILab, where the tensor is absent")


@dataclass(frozen=True)
class _Parts:
    """The tensors by canonical name, placed beside the target's head, and what they are read as."""

    tensors: Mapping[str, Tensor]
    declaration: Declaration
    reading: Reading
    target: Target

    def gain(self, name: str) -> Tensor:
        """A norm's gain, 1 where the tensor is not there."""
        found = self.tensors.get(f"{name}.weight")
        return (
            torch.ones(self.declaration.anatomy.width, dtype=self.target.head.dtype, device=self.target.head.device)
            if found is None
            else found
        )

    def linear(self, name: str, *, biased: bool) -> Linear:
        """A projection, with its bias where there is one and it counts."""
        return Linear(self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias") if biased else None)


def read_eagle(declaration: Declaration, target: Target, system: System | None = None) -> tuple[Eagle3 | Eagle, dict[str, Sourced]]:
    """The drafter and its record, ready to draft for `target`; raises FormatError for tensors that are not finite."""
    stored = read_whole(declaration.checkpoint, (raw for name, raw in declaration.names.items() if name not in MAPS))
    like = target.head
    place = {name: stored[raw].to(like) for name, raw in declaration.names.items() if name not in MAPS}
    require_bounded(f"{declaration.checkpoint.source.name} as {like.dtype}", place)
    parts = _Parts(place, declaration, declaration.reading(system), target)
    record = declaration.record(system)
    gains = [tensor for name, tensor in place.items() if tensor.ndim == 1 and "norm" in name]
    lost = bool(gains) and all(bool((gain == 1).all()) for gain in gains)
    record["norm_gains"] = Sourced("all exactly 1" if lost else "as written", "tensor")
    embedding = _embedding(parts, record)
    drafter = _eagle3(parts, embedding, record) if declaration.anatomy.family == "eagle3" else _eagle(parts, embedding, record)
    return drafter, record


def _eagle3(parts: _Parts, embedding: Tensor, record: dict[str, Sourced]) -> Eagle3:
    reading, tensors, declaration = parts.reading, parts.tensors, parts.declaration
    to_target = torch.from_numpy(declaration.to_target).to(parts.target.head.device)
    norms, joint = reading.pre_fc_norm.value, tensors.get("input_norm.weight")
    apart = stream_norm_names(tensors)
    gains = [parts.gain("layers.0.hidden_norm")]
    head = _head(parts, embedding, to_target, record)
    return Eagle3(
        boundaries=_boundaries(reading),
        fusion=Fusion(
            joint if norms.startswith("joint") else None,
            tuple(tensors[name] for name in apart) if norms.endswith("per stream") else (),
            tensors.get("fc.weight"),
            declaration.eps,
        ),
        embedding_gain=parts.gain("layers.0.input_layernorm"),
        hidden_gains=tuple(gains if reading.hidden_norms.value == 1 else [parts.gain("layers.0.input_layernorm"), *gains]),
        layers=_layers(parts),
        final_gain=parts.gain("norm"),
        embedding=embedding,
        head=head,
        vocabulary=DraftVocabulary.of(to_target, len(parts.target.head)),
        eps=declaration.eps,
        residual=reading.residual.value,
        logits_from=reading.logits_from.value,
        feedback=reading.feedback.value,
        rope_config=_rope(parts),
        shared_head=record["head"].value == "target's",
        softcap=declaration.softcap,
        embedding_scale=declaration.anatomy.width**0.5 if declaration.anatomy.sandwiched else 1.0,
        masked=None if declaration.mask is None else (declaration.mask, tensors[MASK_STREAMS].flatten(0, 1)),
        trained_depths=declaration.trained_depths,
        others=_others(parts, embedding),
    )


def stream_norm_names(names: Iterable[str]) -> list[str]:
    """Canonical names of the norms in front of `fc`, in the order of the streams."""
    return sorted((name for name in names if name.startswith("fc_norm.")), key=lambda name: (len(name), name))


def _eagle(parts: _Parts, embedding: Tensor, record: dict[str, Sourced]) -> Eagle:
    (boundary,) = _boundaries(parts.reading)
    own = parts.tensors.get("lm_head.weight")
    record["head"] = SHARED if own is None else _owned(own, parts.target.head)
    fusion = parts.linear("fc", biased=parts.reading.fusion_bias.value)
    head = parts.target.head if own is None else own
    return Eagle(boundary, fusion, _layers(parts), embedding, head, _rope(parts), _others(parts, embedding))


def _others(parts: _Parts, embedding: Tensor) -> Others:
    """What the weights can be put together with instead."""
    declaration, head = parts.declaration, parts.target.head
    own, shared = parts.tensors.get("embed_tokens.weight"), parts.target.embedding.to(head)
    embeddings = {"own": own, "target's": shared}
    return Others(
        vocabularies={
            name: DraftVocabulary.of(torch.from_numpy(ids).to(head.device), len(head)) for name, ids in other_maps(declaration).items()
        },
        ropes=other_ropes(declaration, parts.reading),
        embeddings={
            name: rows
            for name, rows in embeddings.items()
            if rows is not None and rows.shape == embedding.shape and not torch.equal(rows, embedding)
        },
        target_head=head if head.shape[1] == declaration.anatomy.width else None,
    )


def _boundaries(reading: Reading) -> tuple[int, ...]:
    boundaries = reading.capture.value
    assert not isinstance(boundaries, str), "the target is loaded, so its layers are known"
    return boundaries


def _rope(parts: _Parts) -> LlamaConfig:
    d = parts.declaration
    partial = d.head.layers.get("partial_rotary_factor")
    return rope_config(parts.reading.rope.value, d.anatomy.heads.rotated, d.positions, partial, d.head.record.where)


def _layers(parts: _Parts) -> tuple[DecoderLayer, ...]:
    found = []
    for number, window in enumerate(parts.reading.windows.value):
        name = f"layers.{number}"
        gain = None if number == 0 else parts.gain(f"{name}.{parts.reading.deeper_norm.value}")
        gate, up, down = (parts.tensors[f"{name}.mlp.{part}_proj.weight"] for part in ("gate", "up", "down"))
        attention, anchored = _attention(parts, f"{name}.self_attn"), parts.reading.window_from.value == "anchor"
        behind = parts.gain(f"{name}.post_attention_layernorm")
        mlp = GatedMlp(gate, up, down, gelu=parts.declaration.anatomy.sandwiched)
        made = DecoderLayer(attention, mlp, parts.declaration.eps, gain, behind, window=window, from_anchor=anchored)
        found.append(_sandwiched(parts, name, made) if parts.declaration.anatomy.sandwiched else made)
    return tuple(found)


def _sandwiched(parts: _Parts, name: str, layer: DecoderLayer) -> DecoderLayer:
    """The same layer with Gemma 4's norms: what is called post-attention norms what the attention gives."""
    before, after = (parts.gain(f"{name}.{norm}") for norm in AROUND_MLP)
    return replace(layer, attended_gain=layer.mlp_gain, mlp_gain=before, out_gain=after, scalar=parts.tensors[f"{name}.layer_scalar"])


def _attention(parts: _Parts, name: str) -> Attention:
    heads, tensors, eps = parts.declaration.anatomy.heads, parts.tensors, parts.declaration.eps
    if heads.kind == "grouped":
        held = [part for part in "qkvo" if f"{name}.{part}_proj.weight" in tensors]
        made = {part: parts.linear(f"{name}.{part}_proj", biased=parts.reading.biases.value) for part in held}
        q_norm, k_norm = (tensors.get(f"{name}.{part}_norm.weight") for part in "qk")
        unscaled = parts.declaration.anatomy.sandwiched
        return GroupedAttention(made["q"], made["k"], made.get("v"), made["o"], heads.size, eps, q_norm, k_norm, unscaled)
    low = f"{name}.q_a_proj"
    has_low = f"{low}.weight" in tensors
    return LatentAttention(
        low_q=parts.linear(low, biased=False) if has_low else None,
        q_gain=tensors.get(f"{name}.q_a_layernorm.weight"),
        q=parts.linear(f"{name}.{'q_b_proj' if has_low else 'q_proj'}", biased=False),
        low_kv=parts.linear(f"{name}.kv_a_proj_with_mqa", biased=False),
        kv_gain=tensors[f"{name}.kv_a_layernorm.weight"],
        kv=parts.linear(f"{name}.kv_b_proj", biased=False),
        o=parts.linear(f"{name}.o_proj", biased=False),
        heads=heads.count,
        size=heads.size,
        rotated=heads.rotated,
        eps=eps,
        scale=latent_scale(parts.reading.rope.value, heads.size, parts.declaration.head.record.where),
    )


def _embedding(parts: _Parts, record: dict[str, Sourced]) -> Tensor:
    shared, own = parts.target.embedding.to(parts.target.head), parts.tensors.get("embed_tokens.weight")
    if own is None or parts.reading.embedding.value == "target's":
        return shared
    record["embedding"] = _owned(own, shared)
    return own


def _head(parts: _Parts, embedding: Tensor, to_target: Tensor, record: dict[str, Sourced]) -> Tensor:
    """The head's own output rows, else its own embedding's where the config ties them, else the target's."""
    tied, own = parts.declaration.head.layers.is_on("tie_word_embeddings"), parts.tensors.get("lm_head.weight")
    if own is not None:
        record["head"] = _owned(own, parts.target.head[to_target])
        return own
    if tied and "embed_tokens.weight" in parts.tensors:
        record["head"] = Sourced("own embedding", "config:tie_word_embeddings")
        return embedding[to_target]
    record["head"] = SHARED
    return parts.target.head[to_target]


def _owned(own: Tensor, shared: Tensor) -> Sourced:
    same = own.shape == shared.shape and torch.equal(own, shared)
    return Sourced("own, equal to the target's" if same else "own", "tensor")
