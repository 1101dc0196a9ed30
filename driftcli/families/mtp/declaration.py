"""What an MTP head is made of, told from tensor names, shapes and the config; no weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from driftcli.conditions import Rotation
from driftcli.domain import Sourced, System
from driftcli.errors import FormatError, UsageError
from driftcli.families.mtp.kinds import REFUSED, SPECULATORS, TRAINED, Kind, Served, kind_of
from driftcli.families.mtp.names import modules_of
from driftcli.families.mtp.shapes import Cut, Sizes, cut_of, is_sparse, require_whole, sizes_of
from driftcli.families.record import Record, otherwise
from driftcli.families.rope import Rope, rope_settings, shown
from driftcli.sources.checkpoint import Checkpoint
from driftcli.sources.files import Json
from driftcli.sources.packed import unpacked
from driftcli.target.facts import TargetFacts, text_part

CLASS = "transformers' class of the target"
SLIDING, FULL = "sliding_attention", "full_attention"
SIZE_KEYS = ("swa_head_dim", "head_dim")


class Turning(NamedTuple):
    """How a layer's heads turn: RoPE settings, None where nothing does, and how many of a head's numbers."""

    rope: Rope | None
    numbers: int


@dataclass(frozen=True)
class Module:
    """One module: its stored names by part, sizes, rotation, window in rows, the query's own included, None for all; cut: how one matrix
    that holds queries, keys and values is.
    """

    parts: Mapping[str, str]
    sizes: Sizes
    turning: Turning
    window: int | None
    cut: Cut | None = None


@dataclass(frozen=True)
class MtpDeclaration:
    """A head understood, for a target. modules: one, or one a depth."""

    checkpoint: Checkpoint
    kind: Kind
    target: TargetFacts
    config: Mapping[str, Json]
    modules: tuple[Module, ...]
    eps: float
    positions: int
    layers: int
    fields: Mapping[str, Sourced]

    def served(self, system: System | None = None) -> Served:
        """How a system runs it, the declared one for None; raises UsageError for one that is not known to run this family."""
        found = self.kind.served.get(system or self.kind.declared)
        if found is None:
            raise UsageError(
                f"--reading {system}: not known to run a {self.kind.name}; expected declared or one of {', '.join(self.kind.served)}"
            )
        return found

    def count(self, system: System | None = None) -> int:
        """Modules that a system runs, one after the other by depth; 1 where it runs the first again and again."""
        return len(self.modules) if self.served(system).by_depth else 1

    def rotation(self, system: System | None = None) -> Rotation:
        """Which numbers of a head turn together: as the system says, else as the target's own layers; those of latents are stored in pairs
        unless the config denies it.
        """
        latent, apart = self.modules[0].sizes.latent, self.config.get("rope_interleave") is False
        own: Rotation = ("halves" if apart else "pairs") if latent else self.kind.rotation
        return self.served(system).rotation or own

    def switches(self, system: System) -> dict[str, Sourced]:
        """The fields on which systems may differ, as one of them has them."""
        served, said = self.served(system), f"default:{system}"
        found: dict[str, Sourced] = {
            "capture": Sourced((self.layers + (served.handed == "normed"),), said),
            "feedback": Sourced(served.feedback, said),
            "first_row": Sourced("zeroed" if served.blanks_first else "kept", said),
            "rotation": Sourced(self.rotation(system), said),
            "rope": Sourced("none" if (rope := self.modules[0].turning.rope) is None else shown(rope), "config:rope_parameters"),
        }
        if len(self.modules) > 1:
            found["modules"] = Sourced("one a depth" if served.by_depth else "the first at every depth", said)
        if self.modules[0].window is not None:
            found["windows"] = Sourced(str(self.modules[0].window + served.wider), said)
        return found

    def record(self, system: System | None = None) -> dict[str, Sourced]:
        """Every field with its source, in one system's reading."""
        chosen = system or self.kind.declared
        source = "assumed:asked for" if system else "default:vLLM where it can, else who trained it"
        return {
            **self.fields,
            "reading": Sourced(chosen, source),
            **self.switches(chosen),
            "turned": Sourced(self.modules[0].turning.numbers, "config:partial_rotary_factor"),
        }

    def differences(self, system: System | None = None) -> dict[str, dict[str, Sourced]]:
        """What other systems compute otherwise."""
        chosen = system or self.kind.declared
        return otherwise({other: self.switches(other) for other in self.kind.served if other != chosen}, self.switches(chosen))


def declare_mtp(checkpoint: Checkpoint, target: TargetFacts, *, apart: bool = False) -> MtpDeclaration:
    """The MTP head that a checkpoint holds, for its target; raises FormatError for one that is not whole or not measured.

    apart: the head lies in a folder of its own, whose config is read in the place of the target's.
    """
    checkpoint = unpacked(checkpoint, blocks=False)
    where, modules = checkpoint.source.name, modules_of(checkpoint.tensors)
    if not modules:
        raise UsageError(f"{where}: carries no MTP head that could draft (no tensors such as mtp.fc.weight); name a drafter with --drafter")
    config = _text(checkpoint.config) if apart else target.config
    kind = _kind(where, config, target, modules[0], checkpoint)
    require_whole(where, kind, modules, checkpoint.tensors)
    if target.width is None or target.layers is None:
        raise FormatError(f"{where}/config.json: names no hidden_size or no number of layers, expected both")
    record = Record(where, config)
    heads = record.integer("heads", "num_attention_heads", None, CLASS)
    key = next((key for key in kind.eps if config.get(key) is not None), kind.eps[-1])
    eps = record.number("rms_norm_eps", key, 1e-6, CLASS)
    positions = record.integer("positions", "max_position_embeddings", 2048, CLASS)
    made = tuple(_module(record, kind, checkpoint, parts, number, target, heads) for number, parts in enumerate(modules))
    record.note("format", kind.name, "tensor")
    record.note("tensors", len({stored for parts in modules for stored in parts.values()}), "tensor")
    record.note("gains", "1 + weight" if kind.one_plus else "weight", f"default:{CLASS}")
    record.note("order", "hidden-first" if kind.hidden_first else "embedding-first", f"default:{CLASS}")
    record.note("experts", is_sparse(modules[0]), "tensor")
    return MtpDeclaration(checkpoint, kind, target, config, made, eps, positions, target.layers, record.fields)


def _text(config: Mapping[str, Json]) -> Mapping[str, Json]:
    """The text model's settings of a head's own config, wherever its producer keeps them."""
    nested = config.get("transformer_layer_config")
    return nested if isinstance(nested, dict) else text_part(config)


def _kind(where: str, config: Mapping[str, Json], target: TargetFacts, parts: Mapping[str, str], checkpoint: Checkpoint) -> Kind:
    model_type = str(config.get("model_type") or target.model_type)
    if checkpoint.config.get("speculators_model_type") == "mtp":
        inner = kind_of(target.model_type or model_type, parts) or TRAINED
        return replace(SPECULATORS, one_plus=inner.one_plus, turned=inner.turned, gated=inner.gated)
    if said := REFUSED.get(model_type):
        raise FormatError(
            f"{where}: {said}, which is not measured here yet; served by vLLM and SGLang: the server's counters tell its loss"
        )
    if any("mtp_layers." in stored and "token_layernorm" in stored for stored in parts.values()):
        model_type = "mimo"
    found = kind_of(model_type, parts)
    if found is None:
        raise FormatError(f"{where}: the MTP head of {model_type or 'an unnamed type'} is not measured yet ({next(iter(parts.values()))})")
    return found


def _module(
    record: Record, kind: Kind, checkpoint: Checkpoint, parts: Mapping[str, str], number: int, target: TargetFacts, heads: int
) -> Module:
    width, config = target.width, record.config
    assert width is not None and target.layers is not None
    said = next((value for key in SIZE_KEYS if isinstance(value := config.get(key), int) and (key == "head_dim" or kind.sliding)), None)
    cut = cut_of(record.where, parts, checkpoint.tensors, config)
    sizes = sizes_of(record.where, parts, checkpoint.tensors, width, heads, said or width // heads, gated=kind.gated, cut=cut)
    layer_type = SLIDING if kind.sliding else _layer_type(config, target.layers, number)
    window = config.get("sliding_window", config.get("sliding_window_size")) if layer_type == SLIDING else None
    turning = Turning(None, 0) if kind.still else _turning(record, kind, sizes, layer_type, target.layers + number)
    rows = window if isinstance(window, int) and not isinstance(window, bool) and window > 0 else None
    return Module(parts, sizes, turning, rows, cut)


def _layer_type(config: Mapping[str, Json], layers: int, number: int) -> str:
    """Of a module's layer: as the config says of MTP layers, in the rest of a longer list, or, for EXAONE-MoE, of layer 0."""
    own, listed = config.get("mtp_layer_types"), config.get("layer_types")
    if isinstance(own, list) and number < len(own):
        return str(own[number])
    if isinstance(listed, list) and len(listed) > layers + number:
        return str(listed[layers + number])
    if config.get("model_type") == "exaone_moe" and isinstance(listed, list) and listed:
        return str(listed[0])
    return FULL


def _turning(record: Record, kind: Kind, sizes: Sizes, layer_type: str, place: int) -> Turning:
    """place: of the layer, counted on from the target's, in settings that are lists of one value a layer."""
    config, given = dict(record.config), record.config.get("rope_parameters")
    for key, listed in (("rope_theta", "rope_theta"), ("partial_rotary_factor", "partial_rotary_factors")):
        if isinstance(values := config.get(listed), list) and values:
            config[key] = values[min(place, len(values) - 1)]
    inner = given.get(layer_type) if isinstance(given, dict) else None
    if isinstance(inner, dict):
        config["rope_parameters"] = inner
    if layer_type == SLIDING and config.get("swa_rope_theta") is not None:
        config["rope_theta"] = config["swa_rope_theta"]
    settings = rope_settings(config, record.where)
    default = 1.0 if sizes.latent else kind.turned
    share = settings.pop("partial_rotary_factor", default if sizes.latent else config.get("partial_rotary_factor", default))
    numbers = sizes.rotary if sizes.latent else _pairs(sizes.rotary, share)
    if not numbers:
        raise record.wrong("partial_rotary_factor", share, "a share of a head that is a whole number of pairs")
    return Turning(settings, numbers)


def _pairs(size: int, share: Json) -> int:
    """How many of a head's numbers a share of it are, 0 for none that could turn."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        return 0
    return 0 if int(size * share) % 2 else int(size * share)
