"""What an MTP head beside a model is made of, told from tensor names, shapes and the config; no weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from driftcli.domain import SYSTEMS, Sourced, System
from driftcli.errors import FormatError, UsageError
from driftcli.families.carried import mtp_tensors
from driftcli.families.mtp.kinds import PARTS, Kind, kind_of
from driftcli.families.record import Record
from driftcli.families.rope import Rope, rope_settings, shown
from driftcli.printable import counted_names
from driftcli.sources.checkpoint import Checkpoint, Stored
from driftcli.target.facts import TargetFacts

FLOATS = ("F16", "BF16", "F32", "F64")
CLASS = "transformers Qwen3_5TextConfig"
TURNED = 0.25  # share of a head that RoPE turns where the config says nothing, as that class has it


@dataclass(frozen=True)
class MtpDeclaration:
    """A head understood. heads, key_heads, size: of its attention; turned: how much of a head RoPE turns."""

    checkpoint: Checkpoint
    kind: Kind
    target: TargetFacts
    heads: int
    key_heads: int
    size: int
    turned: int
    eps: float
    rope: Rope
    layers: int
    fields: Mapping[str, Sourced]

    def record(self, system: System | None = None) -> dict[str, Sourced]:
        """Every field with its source, in one system's reading."""
        chosen = system or SYSTEMS[0]
        return {
            **self.fields,
            "reading": Sourced(chosen, "assumed:asked for" if system else "default:vLLM"),
            "capture": Sourced((self.layers + 1,), f"default:{chosen.rpartition(':')[2]}, the stream behind the final norm"),
            "feedback": Sourced(self.kind.feedback[chosen], f"default:{chosen}"),
            "rope": Sourced(shown(self.rope), "config:rope_parameters"),
        }

    def differences(self, system: System | None = None) -> dict[str, dict[str, Sourced]]:
        """What other systems compute otherwise."""
        ours = self.kind.feedback[system or SYSTEMS[0]]
        return {
            other: {"feedback": Sourced(said, f"default:{other}")}
            for other, said in self.kind.feedback.items()
            if other != (system or SYSTEMS[0]) and said != ours
        }


def declare_mtp(checkpoint: Checkpoint, target: TargetFacts) -> MtpDeclaration:
    """The MTP head that a checkpoint holds, for the target that it ships with; raises FormatError for one that is not measured."""
    where, held = checkpoint.source.name, mtp_tensors(checkpoint.tensors)
    if not held:
        raise UsageError(f"{where}: carries no MTP head that could draft (no tensors such as mtp.fc.weight); name a drafter with --drafter")
    kind = kind_of(target.model_type, checkpoint.tensors)
    if kind is None:
        raise FormatError(f"{where}: the MTP head of {target.model_type or 'an unnamed type'} is not measured yet ({held[0]})")
    record = Record(where, target.config)
    count = record.integer("heads", "num_attention_heads", None, CLASS)
    keys = record.integer("kv_heads", "num_key_value_heads", count, CLASS)
    size = record.integer("head_dim", "head_dim", 256, CLASS)
    eps = record.number("rms_norm_eps", "rms_norm_eps", 1e-6, CLASS)
    rope = rope_settings({**target.config}, where)
    share = rope.pop("partial_rotary_factor", target.config.get("partial_rotary_factor", TURNED))
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1 or int(size * share) % 2:
        raise record.wrong("partial_rotary_factor", share, "a share of a head that is a whole number of pairs")
    if target.width is None or target.layers is None:
        raise FormatError(f"{where}/config.json: names no hidden_size or no number of layers, expected both")
    expected = _shapes(kind, target.width, record.integer("inner", "intermediate_size", None, CLASS), count, keys, size)
    _require(where, {name: checkpoint.tensors[name] for name in held}, expected)
    record.note("format", kind.name, "tensor")
    record.note("tensors", len(held), "tensor")
    record.note("gains", "1 + weight" if kind.one_plus else "weight", f"default:{CLASS}")
    return MtpDeclaration(checkpoint, kind, target, count, keys, size, int(size * share), eps, rope, target.layers, record.fields)


def _shapes(kind: Kind, width: int, inner: int, heads: int, keys: int, size: int) -> dict[str, tuple[int, ...]]:
    outer = dict(zip(PARTS, ((width,), (width,), (width, 2 * width), (width,)), strict=True))
    queries = heads * size * (2 if kind.gated else 1)
    inside: dict[str, tuple[int, ...]] = {
        "input_layernorm": (width,), "post_attention_layernorm": (width,), "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys * size, width), "self_attn.v_proj": (keys * size, width), "self_attn.o_proj": (width, heads * size),
        "self_attn.q_norm": (size,), "self_attn.k_norm": (size,), "mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }  # fmt: skip
    return {kind.names[part]: shape for part, shape in outer.items()} | {
        f"{kind.layer}{name}.weight": shape for name, shape in inside.items()
    }


def _require(where: str, held: Mapping[str, Stored], expected: Mapping[str, tuple[int, ...]]) -> None:
    if left := sorted(held.keys() - expected.keys()):
        raise FormatError(f"{where}: {counted_names(left, 'has no place', 'have no place')} in an MTP head that is measured; it is not run")
    if missing := sorted(expected.keys() - held.keys()):
        raise FormatError(f"{where}: {counted_names(missing, 'is missing', 'are missing')}, expected a whole MTP head; export it again")
    for name, tensor in held.items():
        if tensor.shape != expected[name]:
            raise FormatError(f"{where}: {name} has shape {tensor.shape}, expected {expected[name]}; config or file is of another head")
        if tensor.dtype not in FLOATS:
            raise FormatError(f"{where}: {name} is stored as {tensor.dtype}, expected floats of 16, 32 or 64 bits; measure it unquantised")
