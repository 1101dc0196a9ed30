"""From a declaration and its tensors to an MTP head that drafts for the target beside which it lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from driftcli.conditions import Rotation
from driftcli.domain import Sourced, System
from driftcli.families.layers import Attention, DecoderLayer, GatedMlp, GroupedAttention, LatentAttention, Linear
from driftcli.families.mtp.alternatives import other_turnings
from driftcli.families.mtp.declaration import Module, MtpDeclaration
from driftcli.families.mtp.experts import experts_like
from driftcli.families.mtp.fused import apart
from driftcli.families.mtp.head import Mtp, MtpModules
from driftcli.families.mtp.kinds import Served
from driftcli.families.mtp.shapes import UNREAD
from driftcli.families.others import Others
from driftcli.families.rope import latent_scale
from driftcli.families.rope_config import rope_config
from driftcli.families.unpacking import read_whole
from driftcli.families.unscaling import unscaled
from driftcli.sources.tensors import require_bounded
from driftcli.target.target import Target

TARGETS = Sourced("target's", "default:all")
QUERIES = "self_attn.q_proj"
LATENT_EPS = 1e-6  # of the latents' norms, which every class leaves at its norm's default


@dataclass(frozen=True)
class _Parts:
    """A module's tensors by part, placed beside the target's head, and what they are read as."""

    tensors: Mapping[str, Tensor]
    module: Module
    declaration: MtpDeclaration
    served: Served
    rotation: Rotation
    target: Target

    def gain(self, name: str) -> Tensor | None:
        """A norm's gain, absent where the module has no such norm."""
        found = self.tensors.get(f"{name}.weight")
        return found + 1 if found is not None and self.declaration.kind.one_plus else found

    def sure(self, name: str) -> Tensor:
        """The gain of a norm that is there."""
        found = self.gain(name)
        assert found is not None, name
        return found

    def linear(self, name: str) -> Linear:
        """A projection, with its bias where it has one."""
        return Linear(self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))


def read_mtp(d: MtpDeclaration, target: Target, system: System | None = None) -> tuple[Mtp | MtpModules, dict[str, Sourced]]:
    """The drafter and its record; raises FormatError for tensors that are not finite."""
    modules = [_read(d, module, target, system) for module in d.modules[: d.count(system)]]
    drafter = modules[0] if len(modules) == 1 else MtpModules(tuple(modules))
    own = "head.weight" in d.modules[0].parts and d.kind.own_head
    return drafter, {**d.record(system), "embedding": TARGETS, "head": Sourced("own", "tensor") if own else TARGETS}


def _read(d: MtpDeclaration, module: Module, target: Target, system: System | None) -> Mtp:
    like, source, served = target.head, d.checkpoint.source, d.served(system)
    wanted = {
        part: stored for part, stored in module.parts.items() if not UNREAD.search(part) or (part == "head.weight" and d.kind.own_head)
    }
    stored = read_whole(d.checkpoint, wanted.values())
    found = {part: stored[name] for part, name in wanted.items()}
    found = found if module.cut is None else apart(source.name, found, module.cut, d.checkpoint.config)
    wide = unscaled(source.name, found, d.checkpoint.config)
    held = {part: tensor.to(like) for part, tensor in wide.items()}
    require_bounded(f"{source.name} as {like.dtype}", {module.parts.get(part, part): tensor for part, tensor in held.items()})
    parts = _Parts(held, module, d, served, d.rotation(system), target)
    turning = module.turning
    rope = None if turning.rope is None else rope_config(turning.rope, turning.numbers, d.positions, None, source.name)
    return Mtp(
        boundary=d.layers + (served.handed == "normed"),
        embedding_gain=parts.sure("embedding_norm"),
        hidden_gain=parts.sure("hidden_norm"),
        fusion=parts.linear("fusion"),
        layer=_layer(parts),
        final_gain=parts.gain("final_norm"),
        embedding=target.embedding.to(like),
        head=held.get("head.weight", like),
        eps=d.eps,
        feedback=served.feedback,
        rope_config=rope,
        one_plus=d.kind.one_plus,
        order="hidden-first" if d.kind.hidden_first else "embedding-first",
        blanks_first=served.blanks_first,
        others=Others(ropes=other_turnings(d, module)),
    )


def _layer(parts: _Parts) -> DecoderLayer:
    """The module's layer; where there is a norm behind the MLP and none in front of the attention, both norms stand behind."""
    behind, window = parts.gain("post_feedforward_layernorm"), parts.module.window
    norm = parts.gain("post_attention_layernorm")
    return DecoderLayer(
        _latent(parts) if parts.module.sizes.latent else _grouped(parts),
        _mlp(parts),
        parts.declaration.eps,
        gain=parts.gain("input_layernorm"),
        mlp_gain=norm if behind is None else None,
        attended_gain=None if behind is None else norm,
        out_gain=behind,
        gate=_gate(parts),
        window=None if window is None else window + parts.served.wider,
    )


def _mlp(parts: _Parts) -> Callable[[Tensor], Tensor]:
    inside = {part.removeprefix("mlp."): tensor for part, tensor in parts.tensors.items() if part.startswith("mlp.")}
    if parts.module.sizes.sparse:
        return experts_like(parts.declaration.checkpoint.source.name, parts.target, inside)
    gate, up, down = (inside[f"{name}_proj.weight"] for name in ("gate", "up", "down"))
    return GatedMlp(gate, up, down)


def _by_head(parts: _Parts) -> Tensor:
    """Rows of a gated query projection: each head's query, then its gate; (head, 2, size, width)."""
    sizes = parts.module.sizes
    return parts.tensors[f"{QUERIES}.weight"].view(sizes.heads, 2, sizes.size, -1)


def _gate(parts: _Parts) -> Linear | None:
    if "self_attn.g_proj.weight" in parts.tensors:
        return parts.linear("self_attn.g_proj")
    return Linear(_by_head(parts)[:, 1].flatten(0, 1)) if parts.declaration.kind.gated else None


def _grouped(parts: _Parts) -> Attention:
    sizes, config, kind = parts.module.sizes, parts.declaration.config, parts.declaration.kind
    query = Linear(_by_head(parts)[:, 0].flatten(0, 1)) if kind.gated else parts.linear(QUERIES)
    value, scale = parts.linear("self_attn.v_proj"), config.get("attention_value_scale")
    if isinstance(scale, int | float) and not isinstance(scale, bool):
        value = Linear(value.weight * scale, None if value.bias is None else value.bias * scale)
    scalar = config.get("query_pre_attn_scalar")
    return GroupedAttention(
        query,
        parts.linear("self_attn.k_proj"),
        value,
        parts.linear("self_attn.o_proj"),
        sizes.size,
        parts.declaration.eps,
        parts.gain("self_attn.q_norm"),
        parts.gain("self_attn.k_norm"),
        paired=parts.rotation == "pairs",
        factor=float(scalar**-0.5) if isinstance(scalar, int | float) and scalar > 0 else None,
        sinks=parts.tensors.get("self_attn.sinks"),
    )


def _latent(parts: _Parts) -> Attention:
    sizes, d, tensors = parts.module.sizes, parts.declaration, parts.tensors
    low, rope = "self_attn.q_a_proj", parts.module.turning.rope or {}
    has_low = f"{low}.weight" in tensors
    return LatentAttention(
        low_q=parts.linear(low) if has_low else None,
        q_gain=_latent_gain(parts, "self_attn.q_a_layernorm.weight") if has_low else None,
        q=parts.linear("self_attn.q_b_proj" if has_low else QUERIES),
        low_kv=parts.linear("self_attn.kv_a_proj_with_mqa"),
        kv_gain=_latent_gain(parts, "self_attn.kv_a_layernorm.weight"),
        kv=parts.linear("self_attn.kv_b_proj"),
        o=parts.linear("self_attn.o_proj"),
        heads=sizes.heads,
        size=sizes.size,
        rotated=sizes.rotary,
        eps=LATENT_EPS,
        scale=latent_scale(rope, sizes.size, d.checkpoint.source.name),
        paired=parts.rotation == "pairs",
    )


def _latent_gain(parts: _Parts, name: str) -> Tensor:
    """A latent's gain, which is stored as it is in every family, times what the family scales the latent by."""
    gain, width = parts.tensors[name], parts.tensors["fusion.weight"].shape[0]
    return gain * (width / len(gain)) ** 0.5 if parts.declaration.kind.latent_scaled else gain
