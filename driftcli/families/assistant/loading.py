"""From a declaration and its tensors to a Gemma 4 assistant that reads the keys of the target beside which it lies.

The target's keys are made anew from its streams by the weights of the layers that keep them, so whatever hands out streams will do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from driftcli.domain import Sourced, System
from driftcli.errors import FormatError, PairError
from driftcli.families.assistant.declaration import CENTROIDS, ORDERING, AssistantDeclaration, Served, rope_of
from driftcli.families.assistant.drafter import Assistant, Clusters, TargetKeys
from driftcli.families.layers import DecoderLayer, GatedMlp, GroupedAttention, Linear
from driftcli.families.rope_config import rope_config
from driftcli.families.unpacking import read_whole
from driftcli.sources.checkpoint import Stored, stored_tensors
from driftcli.sources.tensors import read_some, require_bounded
from driftcli.target.parts import FLOATS
from driftcli.target.target import Target

TEXT_LAYER = (
    r"^(?:model\.)?(?:language_model\.)?(?:model\.)?layers\.{}\.(?P<part>input_layernorm\.weight|self_attn\.[kv]_(?:proj|norm)\..+)$"
)


@dataclass(frozen=True)
class _Parts:
    """The tensors by canonical name, placed beside the target's head, and what they are read as."""

    tensors: Mapping[str, Tensor]
    declaration: AssistantDeclaration
    served: Served

    def linear(self, name: str) -> Linear:
        """A projection."""
        return Linear(self.tensors[f"{name}.weight"])


def read_assistant(d: AssistantDeclaration, target: Target, system: System | None = None) -> tuple[Assistant, dict[str, Sourced]]:
    """The drafter and its record; raises FormatError for tensors that are not finite, or of the target are not plain numbers, and PairError
    for keys of another size than its queries.
    """
    like, served, source = target.head, d.served(system), d.checkpoint.source
    stored = read_whole(d.checkpoint, d.names.values())
    held = {name: stored[raw].to(like.device) if name == ORDERING else stored[raw].to(like) for name, raw in d.names.items()}
    require_bounded(f"{source.name} as {like.dtype}", {d.names[name]: tensor for name, tensor in held.items()})
    parts = _Parts(held, d, served)
    layers, theirs = target.facts.layers, stored_tensors(target.source)
    assert layers is not None
    drafter = Assistant(
        boundary=layers + 1,
        keys={kind: _keys(d, kind, target, theirs) for kind in d.kinds},
        embedding=target.embedding.to(like),
        embedding_scale=float(target.embedding.shape[1] ** 0.5),
        pre=parts.linear("pre_projection"),
        post=parts.linear("post_projection"),
        layers=tuple(_layer(parts, number) for number in range(len(d.layers))),
        kinds=d.layers,
        final_gain=held["norm.weight"],
        head=held.get("lm_head.weight", held["embed_tokens.weight"]),
        eps=d.eps,
        ropes={kind: rope_config(one.rope, one.size, d.positions, None, source.name) for kind, one in d.kinds.items()},
        place=served.place,
        softcap=d.softcap if served.capped else None,
        clusters=None if d.chosen is None else _clusters(parts, d.chosen),
    )
    own = "lm_head.weight" in held
    return drafter, {
        **d.record(system),
        "embedding": Sourced("target's", "default:all"),
        "head": Sourced("own", "tensor" if own else "default:tied"),
    }


def _clusters(parts: _Parts, scored: int) -> Clusters:
    centroids, ordering = parts.tensors[CENTROIDS], parts.tensors[ORDERING].long()
    where, count = parts.declaration.checkpoint.source.name, len(centroids)
    if len(ordering) % max(1, count) or scored > count or bool((ordering.sort().values != ordering.new_tensor(range(len(ordering)))).any()):
        raise FormatError(
            f"{where}: token_ordering holds {len(ordering)} entries for {count} clusters of which {scored} are scored, expected every "
            "token once, in clusters of one size; export it again"
        )
    return Clusters(centroids, ordering.view(count, -1), scored)


def _layer(parts: _Parts, number: int) -> DecoderLayer:
    at, tensors, kind = f"layers.{number}", parts.tensors, parts.declaration.kinds[parts.declaration.layers[number]]
    gate, up, down = (tensors[f"{at}.mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
    before, attended, mlp, behind = (
        tensors[f"{at}.{name}.weight"]
        for name in ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
    )
    q, o = (parts.linear(f"{at}.self_attn.{name}_proj") for name in "qo")
    eps, q_norm = parts.declaration.eps, tensors[f"{at}.self_attn.q_norm.weight"]
    return DecoderLayer(
        GroupedAttention(q, None, None, o, kind.size, eps, q_norm, unscaled=True),
        GatedMlp(gate, up, down, gelu=True),
        eps,
        gain=before,
        mlp_gain=mlp,
        attended_gain=attended,
        out_gain=behind,
        scalar=tensors.get(f"{at}.layer_scalar"),
        window=None if kind.window is None else kind.window + parts.served.wider,
    )


def _keys(d: AssistantDeclaration, kind: str, target: Target, stored: Mapping[str, Stored]) -> TargetKeys:
    """What the target's layer makes its keys of; stored: the target's tensors."""
    one, where = d.kinds[kind], target.source.name
    assert one.layer is not None
    pattern = re.compile(TEXT_LAYER.format(one.layer))
    names = {match["part"]: name for name in stored if (match := pattern.match(name))}
    needed = ("input_layernorm.weight", "self_attn.k_proj.weight", "self_attn.k_norm.weight")
    if odd := [part for part in needed if part not in names] or [name for name in names.values() if stored[name].dtype not in FLOATS]:
        raise FormatError(
            f"{where}: {odd[0]} of layer {one.layer}, whose keys the assistant reads, is not among its files as plain numbers; use the "
            "target unquantised"
        )
    read = read_some(target.source, names.values())
    held = {part: read[name].to(target.head) for part, name in names.items()}
    if len(held["self_attn.k_norm.weight"]) != one.size:
        raise PairError(
            f"{d.checkpoint.source.name}: its {kind} queries have {one.size} numbers a head, the keys of layer {one.layer} of {where} "
            f"{len(held['self_attn.k_norm.weight'])}; name the target it is for"
        )
    value = held.get("self_attn.v_proj.weight")
    config = target.facts.config
    positions, eps = target.facts.positions or d.positions, config.get("rms_norm_eps", d.eps)
    assert isinstance(eps, float)
    return TargetKeys(
        boundary=one.layer,
        gain=held["input_layernorm.weight"],
        k=Linear(held["self_attn.k_proj.weight"], held.get("self_attn.k_proj.bias")),
        v=None if value is None else Linear(value, held.get("self_attn.v_proj.bias")),
        k_norm=held["self_attn.k_norm.weight"],
        eps=eps,
        rope_config=rope_config(rope_of(config, kind, where), one.size, positions, None, where),
    )
