"""From a declaration and its tensors to a block drafter, in one system's reading. Embeddings and head are the target's unless it has its
own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from driftcli.domain import Sourced, System
from driftcli.errors import PairError
from driftcli.families.block.alternatives import configured_window, other_ropes
from driftcli.families.block.anatomy import AROUND, AROUND_MLP, CONFIDENCE, CONVOLUTION, MAPS, SCALAR, SELECTOR
from driftcli.families.block.convolution import Convolution
from driftcli.families.block.correction import Confidence, Correction, Markov, Selector
from driftcli.families.block.declaration import BlockDeclaration
from driftcli.families.block.drafter import Block, BlockLayer
from driftcli.families.block.readings import ANCHOR, ANCHOR_FIRST, BLOCK, Reading
from driftcli.families.block.readings import SHARED as SHARED_ROWS
from driftcli.families.layers import DecoderLayer, GatedMlp, GroupedAttention, Linear
from driftcli.families.others import Others
from driftcli.families.rope_config import rope_config
from driftcli.families.unpacking import read_whole
from driftcli.families.vocabulary import DraftVocabulary
from driftcli.sources.tensors import require_bounded
from driftcli.target.target import Target

SHARED = Sourced("target's", "default:vLLM, SGLang and z-lab, where the tensor is absent")


@dataclass(frozen=True)
class _Parts:
    """The tensors by canonical name, placed beside the target's head, and what they are read as."""

    tensors: Mapping[str, Tensor]
    declaration: BlockDeclaration
    reading: Reading

    def linear(self, name: str) -> Linear:
        """A projection, with its bias where it has one."""
        return Linear(self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))


def read_block(d: BlockDeclaration, target: Target, system: System | None = None) -> tuple[Block, dict[str, Sourced]]:
    """The drafter and its record; raises FormatError for tensors that are not finite, PairError where the target's rows do not fit."""
    like, a, reading = target.head, d.anatomy, d.reading(system)
    wanted = {name: stored for name, stored in a.names.items() if name not in MAPS}
    stored = read_whole(d.checkpoint, wanted.values())
    held = {name: stored[raw].to(like) for name, raw in wanted.items()}
    require_bounded(f"{d.checkpoint.source.name} as {like.dtype}", {wanted[name]: tensor for name, tensor in held.items()})
    shared = reading.rows_of.value == SHARED_ROWS
    own, head = (None if shared else held.get(f"{name}.weight") for name in ("embed_tokens", "lm_head"))
    _require_width(d, target, own is None or head is None)
    to_target = torch.from_numpy(d.to_target).to(like.device)
    embedding = target.embedding.to(like) if own is None else own
    parts = _Parts(held, d, reading)
    drafter = Block(
        boundaries=reading.capture.value,
        fusion=held["fc.weight"],
        hidden_gain=held["hidden_norm.weight"],
        layers=tuple(_layer(parts, number) for number in range(a.layers)),
        final_gain=held["norm.weight"],
        embedding=embedding,
        mask=d.mask,
        head=like[to_target] if head is None else head,
        vocabulary=DraftVocabulary.of(to_target, len(like)),
        eps=d.eps,
        rope_config=rope_config(reading.rope.value, a.size, d.positions, d.head.layers.get("partial_rotary_factor"), d.head.record.where),
        block_size=d.block_size,
        as_trained=reading.rows.value == BLOCK,
        scales=reading.scales.value,
        anchor_first=reading.slots.value == ANCHOR_FIRST,
        correction=_correction(parts) if a.rank else None,
        confidence=_confidence(parts) if d.has_confidence else None,
        window=configured_window(d),
        others=Others(
            ropes=other_ropes(d, system), embeddings=_embeddings(own, target), target_head=like if like.shape[1] == a.width else None
        ),
    )
    gains = [tensor for name, tensor in held.items() if "norm" in name]
    lost = Sourced("all exactly 1" if all(bool((gain == 1).all()) for gain in gains) else "as written", "tensor")
    rows = {"embedding": _owner(own, target.embedding), "head": _owner(head, like[to_target])}
    return drafter, {**d.record(system), **rows, "norm_gains": lost}


def _embeddings(own: Tensor | None, target: Target) -> dict[str, Tensor]:
    """The target's rows, where a drafter reads by others of the same shape."""
    shared = target.embedding.to(target.head)
    return {"target's": shared} if own is not None and own.shape == shared.shape and not torch.equal(own, shared) else {}


def _correction(parts: _Parts) -> Correction:
    at, held = "markov_head.", parts.tensors
    if parts.declaration.candidates:
        before, after, hidden = (held[name] for name in SELECTOR)
        return Selector(before, after, hidden, parts.declaration.candidates)
    gate, joint = (parts.linear(f"{at}{name}_proj") if f"{at}{name}_proj.weight" in held else None for name in ("gate", "joint"))
    return Markov(held[f"{at}markov_w1.weight"], held[f"{at}markov_w2.weight"], gate, joint)


def _confidence(parts: _Parts) -> Confidence:
    a = parts.declaration.anatomy
    return Confidence(parts.linear(CONFIDENCE), parts.tensors["markov_head.markov_w1.weight"] if a.confidence > a.width else None)


def _require_width(d: BlockDeclaration, target: Target, shares: bool) -> None:
    if shares and target.head.shape[1] != d.anatomy.width:
        raise PairError(
            f"{d.checkpoint.source.name}: {d.anatomy.width} wide and without embeddings or output rows of its own, but those of "
            f"{target.source.name} are {target.head.shape[1]} wide; name the target it is for"
        )


def _owner(own: Tensor | None, shared: Tensor) -> Sourced:
    if own is None:
        return SHARED
    same = own.shape == shared.shape and torch.equal(own, shared.to(own))
    return Sourced("own, equal to the target's" if same else "own", "tensor")


def _layer(parts: _Parts, number: int) -> BlockLayer:
    at, reading, tensors = f"layers.{number}", parts.reading, parts.tensors
    gate, up, down = (tensors[f"{at}.mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
    sandwiched, behind = parts.declaration.anatomy.sandwiched, tensors[f"{at}.post_attention_layernorm.weight"]
    before, after = (tensors.get(f"{at}.{norm}.weight") for norm in AROUND_MLP)  # what is called post-attention norms what attention gives
    layer = DecoderLayer(
        _attention(parts, f"{at}.self_attn"),
        GatedMlp(gate, up, down, gelu=sandwiched),
        parts.declaration.eps,
        gain=tensors[f"{at}.input_layernorm.weight"],
        mlp_gain=before if sandwiched else behind,
        attended_gain=behind if sandwiched else None,
        out_gain=after,
        scalar=tensors.get(f"{at}.{SCALAR}"),
        window=reading.windows.value[number],
        from_anchor=reading.window_from.value == ANCHOR,
    )
    return BlockLayer(layer, reading.causal.value[number], _around(parts, at) if parts.declaration.anatomy.taps else None)


def _around(parts: _Parts, at: str) -> tuple[Convolution, Convolution]:
    attention, mlp = (Convolution(*(parts.tensors[f"{at}.{around}.{name}"] for name in CONVOLUTION)) for around in AROUND)
    return attention, mlp


def _attention(parts: _Parts, at: str) -> GroupedAttention:
    q, k, o = (parts.linear(f"{at}.{name}_proj") for name in "qko")
    v = parts.linear(f"{at}.v_proj") if f"{at}.v_proj.weight" in parts.tensors else None
    q_norm, k_norm = (parts.tensors[f"{at}.{name}_norm.weight"] for name in "qk")
    paired, size = parts.reading.rotation.value == "pairs", parts.declaration.anatomy.size
    unscaled = parts.declaration.anatomy.sandwiched
    return GroupedAttention(q, k, v, o, size, parts.declaration.eps, q_norm, k_norm, unscaled, paired=paired)
