"""What the file of a Gemma 4 assistant declares, before any weight is read: sizes, kinds of layers, and whose keys each kind reads.

An assistant has no keys of its own. Each of its layers attends to what the target keeps of its last layer of the same kind, full or
sliding, that has keys of its own, at one position for all tokens of a chain. Sources: transformers 5.24 (models/gemma4_assistant,
generation/candidate_generator.py) and vLLM 0.33 (model_executor/models/gemma4_mtp.py, v1/worker/gpu/spec_decode/gemma4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from driftcli.conditions import Place, Wiring
from driftcli.domain import Sourced, System
from driftcli.errors import FormatError, PairError, UsageError
from driftcli.families.layout import Format
from driftcli.families.record import Record, otherwise
from driftcli.families.rope import rope_settings, shown
from driftcli.printable import counted_names
from driftcli.sources.checkpoint import Checkpoint
from driftcli.sources.files import Json
from driftcli.target.facts import TargetFacts

CLASS = "transformers Gemma4TextConfig"
VLLM: Final = "as_served:vllm"
TRANSFORMERS: Final = "as_served:transformers"
FULL, SLIDING = "full_attention", "sliding_attention"
EVERY_SIXTH = 6  # layer sees all of the text where a config lists no kinds
WINDOW, POSITIONS, EPS = 512, 131_072, 1e-6
ROPES: Mapping[str, Mapping[str, Json]] = {  # of the class, where a config says nothing
    SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
    FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0},
}
ACTIVATION = "gelu_pytorch_tanh"
AROUND = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
CENTROIDS, ORDERING = "masked_embedding.centroids.weight", "masked_embedding.token_ordering"


@dataclass(frozen=True, slots=True)
class Served:
    """How a system runs an assistant. place: at whose position its queries stand; wider: rows more in its windows; capped: its scores are
    bound by the config's final_logit_softcapping.
    """

    place: Place
    wider: int
    capped: bool


SERVED: Mapping[System, Served] = {VLLM: Served("the one before", 0, True), TRANSFORMERS: Served("the anchor's", 1, False)}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of layer: numbers of a head, the rows that it sees, None for all, its rotation, and the target's layer whose keys it reads."""

    size: int
    window: int | None
    rope: Mapping[str, Json]
    layer: int | None


@dataclass(frozen=True)
class AssistantDeclaration:
    """A checkpoint understood. names: stored by canonical name; layers: the kind of each; kinds: those that occur; chosen: of clusters of
    tokens how many are scored, None for all tokens.
    """

    checkpoint: Checkpoint
    format: Format
    target: TargetFacts
    names: Mapping[str, str]
    layers: tuple[str, ...]
    kinds: Mapping[str, Kind]
    width: int
    vocabulary: int
    heads: int
    eps: float
    softcap: float | None
    positions: int
    chosen: int | None
    fields: Mapping[str, Sourced]

    def served(self, system: System | None = None) -> Served:
        """How a system runs it, the declared one for None; raises UsageError for one that is not known to."""
        found = SERVED.get(system or VLLM)
        if found is None:
            raise UsageError(f"--reading {system}: not known to run Gemma 4 assistants; expected declared or one of {', '.join(SERVED)}")
        return found

    def switches(self, system: System) -> dict[str, Sourced]:
        """The fields on which systems differ, as one of them has them."""
        served, said = self.served(system), f"default:{system}"
        windows = {kind.window + served.wider for kind in self.kinds.values() if kind.window is not None}
        return {
            "position": Sourced(served.place, said),
            "windows": Sourced(", ".join(map(str, sorted(windows))) or "none", said),
            "softcap": Sourced(self.softcap if served.capped else None, said),
        }

    def record(self, system: System | None = None) -> dict[str, Sourced]:
        """Every field with its source, in one system's reading."""
        source = "assumed:asked for" if system else "default:vLLM where it can, else who trained it"
        return {**self.fields, "reading": Sourced(system or VLLM, source), **self.switches(system or VLLM)}

    def differences(self, system: System | None = None) -> dict[str, dict[str, Sourced]]:
        """What other systems compute otherwise."""
        chosen = system or VLLM
        return otherwise({other: self.switches(other) for other in SERVED if other != chosen}, self.switches(chosen))

    def alternatives(self, system: System | None = None) -> tuple[Wiring, ...]:
        """What its files leave open, of one change each: where its queries stand, and which side of the final norm it is handed."""
        place = self.served(system).place
        layers = self.target.layers
        other: Place = "the anchor's" if place == "the one before" else "the one before"
        return (Wiring(position=other), *(() if layers is None else (Wiring(capture=(layers,)),)))


def declare_assistant(checkpoint: Checkpoint, format: Format, target: TargetFacts) -> AssistantDeclaration:
    """The assistant that a checkpoint holds, for its target, or for none that is known; raises FormatError for one that is not whole, and
    PairError for a target whose keys it cannot read.
    """
    where = checkpoint.source.name
    names = {format.canonical(stored): stored for stored in checkpoint.tensors}
    shapes = {name: checkpoint.tensors[stored].shape for name, stored in names.items()}
    record = Record(where, checkpoint.config)
    text = record.within("text_config")
    layers = _kinds(text.config, _layer_count(shapes), where)
    chosen = record.integer("scored_clusters", "centroid_intermediate_top_k", 32, CLASS) if record.is_on("use_ordered_embeddings") else None
    heads = _require_whole(where, shapes, len(layers), ordered=chosen is not None)
    width, backbone = shapes["post_projection.weight"][1], shapes["post_projection.weight"][0]
    vocabulary = shapes["embed_tokens.weight"][0]
    if (said := text.get("hidden_activation")) not in (None, ACTIVATION):
        raise text.wrong("hidden_activation", said, ACTIVATION)
    _require_target(where, target, backbone, vocabulary)
    sizes = {kind: shapes[f"layers.{number}.self_attn.q_norm.weight"][0] for number, kind in enumerate(layers)}
    kinds = {kind: _kind(text, kind, size, target) for kind, size in sizes.items()}
    softcap = text.get("final_logit_softcapping")
    record.note("format", format.name, "tensor")
    record.note("tensors", len(shapes), "tensor")
    record.note("width", width, "tensor")
    record.note("layers", ", ".join(kind.partition("_")[0] for kind in layers), text.source("layer_types", CLASS))
    record.note("keys_of", _keys_of(kinds), "config:layer_types, num_kv_shared_layers of the target")
    return AssistantDeclaration(
        checkpoint,
        format,
        target,
        names,
        layers,
        kinds,
        width,
        vocabulary,
        heads,
        text.number("rms_norm_eps", "rms_norm_eps", EPS, CLASS),
        None if softcap is None else text.number("final_logit_softcapping", "final_logit_softcapping", 1.0, CLASS),
        text.integer("positions", "max_position_embeddings", POSITIONS, CLASS),
        chosen,
        record.fields,
    )


def _layer_count(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("layers."))


def _kinds(config: Mapping[str, Json], count: int, where: str) -> tuple[str, ...]:
    """The kind of each of so many layers, as a config lists them or its class does by itself; the last one always sees all."""
    listed = config.get("layer_types")
    if listed is None:
        listed = [SLIDING if (number + 1) % EVERY_SIXTH else FULL for number in range(count)]
    if not isinstance(listed, list) or len(listed) != count or any(kind not in (FULL, SLIDING) for kind in listed):
        raise FormatError(f"{where}/config.json: layer_types is {listed!r}, expected {FULL} or {SLIDING} for each of {count} layers")
    return (*map(str, listed[:-1]), FULL)


def _kind(text: Record, kind: str, size: int, target: TargetFacts) -> Kind:
    window = text.integer("sliding_window", "sliding_window", WINDOW, CLASS) if kind == SLIDING else None
    return Kind(size, window, rope_of(text.config, kind, text.where), None if target.layers is None else keyed_layer(target, kind))


def rope_of(config: Mapping[str, Json], kind: str, where: str) -> dict[str, Json]:
    """How layers of a kind turn, by the config of an assistant or of its target."""
    given = config.get("rope_parameters")
    inner = given.get(kind) if isinstance(given, dict) else None
    return rope_settings({"rope_parameters": inner if isinstance(inner, dict) else dict(ROPES[kind])}, where)


def keyed_layer(target: TargetFacts, kind: str) -> int:
    """The target's last layer of a kind that keeps keys of its own; PairError where there is none."""
    assert target.layers is not None
    shared = target.config.get("num_kv_shared_layers")
    own = target.layers - (shared if isinstance(shared, int) and 0 < shared < target.layers else 0)
    found = [number for number, one in enumerate(_kinds(target.config, target.layers, target.name)[:own]) if one == kind]
    if not found:
        raise PairError(f"{target.name}: no layer of its {own} with keys of their own is of kind {kind}, which the assistant reads; "
                        "name the target it is for")  # fmt: skip
    return found[-1]


def _keys_of(kinds: Mapping[str, Kind]) -> str:
    return ", ".join(f"{kind.partition('_')[0]} {'not known' if one.layer is None else one.layer}" for kind, one in kinds.items())


def _require_target(where: str, target: TargetFacts, backbone: int, vocabulary: int) -> None:
    if target.named is None:
        return
    if not target.model_type.startswith("gemma4"):
        raise PairError(
            f"{where}: an assistant of Gemma 4, which reads its target's keys; {target.name} is of type {target.model_type!r}, "
            "expected the Gemma 4 model it was made for"
        )
    if (target.width, target.vocabulary) != (backbone, vocabulary):
        raise PairError(
            f"{where}: made for a target {backbone} wide with {vocabulary} tokens, {target.name} is {target.width} wide with "
            f"{target.vocabulary}; name the target it is for"
        )


def _require_whole(where: str, shapes: Mapping[str, tuple[int, ...]], layers: int, *, ordered: bool) -> int:
    """Query heads; raises FormatError for tensors that are missing, of another shape, or without a place."""
    needed = ("post_projection.weight", "embed_tokens.weight", *(f"layers.{n}.self_attn.q_norm.weight" for n in range(layers)))
    if missing := [name for name in needed if name not in shapes]:
        raise FormatError(f"{where}: {counted_names(missing, 'is missing', 'are missing')}, expected a whole assistant; export it again")
    backbone, width = shapes["post_projection.weight"]
    vocabulary = shapes["embed_tokens.weight"][0]
    expected: dict[str, tuple[int, ...]] = {
        "pre_projection.weight": (width, 2 * backbone),
        "post_projection.weight": (backbone, width),
        "embed_tokens.weight": (vocabulary, width),
        "norm.weight": (width,),
        **({CENTROIDS: (shapes.get(CENTROIDS, (0,))[0], width), ORDERING: (vocabulary,)} if ordered else {}),
    }
    first = shapes["layers.0.self_attn.q_norm.weight"][0]
    heads = shapes.get("layers.0.self_attn.q_proj.weight", (0,))[0] // max(1, first)
    for number in range(layers):
        size = shapes[f"layers.{number}.self_attn.q_norm.weight"][0]
        inner = shapes.get(f"layers.{number}.mlp.gate_proj.weight", (0,))[0]
        expected |= _layer_shapes(f"layers.{number}.", width, inner, heads, size)
    optional = {"lm_head.weight": (vocabulary, width), **{f"layers.{number}.layer_scalar": (1,) for number in range(layers)}}
    wrong = [name for name, shape in expected.items() if shapes.get(name) != shape]
    wrong += [name for name, shape in shapes.items() if name not in expected and optional.get(name) != shape]
    if wrong:
        said = "missing, of another shape or without a place"
        raise FormatError(f"{where}: {counted_names(wrong, f'is {said}', f'are {said}')}, expected a whole assistant; export it again")
    return heads


def _layer_shapes(at: str, width: int, inner: int, heads: int, size: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{at}self_attn.q_proj.weight": (heads * size, width),
        f"{at}self_attn.o_proj.weight": (width, heads * size),
        f"{at}self_attn.q_norm.weight": (size,),
        f"{at}mlp.gate_proj.weight": (inner, width),
        f"{at}mlp.up_proj.weight": (inner, width),
        f"{at}mlp.down_proj.weight": (width, inner),
        **{f"{at}{name}.weight": (width,) for name in AROUND},
    }


def turned_apart(d: AssistantDeclaration) -> Sequence[str]:
    """The kinds of layers whose queries turn otherwise than the target's keys, each with both rotations."""
    if d.target.named is None:
        return []
    both = {kind: (shown(one.rope), shown(rope_of(d.target.config, kind, d.target.name))) for kind, one in d.kinds.items()}
    return [
        f"{kind.partition('_')[0]} layers turn by {ours}, the target's keys by {theirs}"
        for kind, (ours, theirs) in both.items()
        if ours != theirs
    ]
