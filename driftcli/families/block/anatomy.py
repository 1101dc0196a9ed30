"""What a block drafter is made of, told from the names and shapes of its tensors: every one has a place, or the file is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from driftcli.errors import FormatError
from driftcli.families.layout import Format
from driftcli.families.quantisation import FLOATS
from driftcli.families.record import Record
from driftcli.printable import counted_names
from driftcli.sources.checkpoint import Checkpoint
from driftcli.target.facts import TargetFacts

Shape = tuple[int, ...]
MAPS = ("d2t", "t2d")
UNREAD = re.compile(r"rotary_emb\.inv_freq$")  # computed anew
CONFIDENCE = "confidence_head.proj"
LAYER = re.compile(r"^layers\.(\d+)\.")
NORMS = ("input_layernorm", "post_attention_layernorm")
SELECTOR = tuple(f"candidate_selector.{name}" for name in ("predecessor_codebook", "successor_codebook", "hidden_projection.weight"))
AROUND = ("attention_conv", "mlp_conv")
CONVOLUTION = ("base_kernel", "kernel_projection.weight")
FIRST_QUERY = "layers.0.self_attn.q_proj.weight"
FIRST_VALUE = "layers.0.self_attn.v_proj.weight"
SCALAR = "layer_scalar"  # Gemma 4's, of what leaves a layer
AROUND_MLP = ("pre_feedforward_layernorm", "post_feedforward_layernorm")


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Stored names by canonical ones, and sizes. heads, keys: query and key heads of `size` numbers; streams: of the target's, each
    `target_width` wide; rank: of what the token before does to the scores, 0 where it does nothing; confidence: numbers that the confidence
    head reads, the output alone or what is known of the token before too, 0 without one. taps, groups: of the convolutions, 0 without.
    sandwiched: its layers are Gemma 4's, with norms on both sides of attention and MLP and a scalar on what leaves.
    """

    names: Mapping[str, str]
    layers: int
    width: int
    heads: int
    keys: int
    size: int
    inner: int
    streams: int
    target_width: int
    vocabulary: int
    draft_vocabulary: int
    rank: int = 0
    confidence: int = 0
    taps: int = 0
    groups: int = 0
    sandwiched: bool = False

    @property
    def correction(self) -> str:
        """What the token before a row does to its scores."""
        if SELECTOR[0] in self.names:
            return "selector"
        gated, recurrent = (f"markov_head.{name}_proj.weight" in self.names for name in ("gate", "joint"))
        return "rnn" if recurrent else "gated" if gated else "vanilla" if self.rank else "none"


def dissect(checkpoint: Checkpoint, format: Format, layers: Record, target: TargetFacts) -> Anatomy:
    """The sizes of a block drafter; raises FormatError for tensors that are missing, have no place or do not fit together."""
    names = {format.canonical(stored): stored for stored in checkpoint.tensors if not UNREAD.search(stored)}
    count = 1 + max((int(found[1]) for name in names if (found := LAYER.match(name))), default=-1)
    sandwiched = format.producer == "DeepSpec" and f"layers.0.{SCALAR}" in names
    _require(layers.where, names, count, sandwiched=sandwiched)
    shapes = {name: checkpoint.tensors[stored].shape for name, stored in names.items()}
    anatomy = replace(_measured(layers, names, shapes, count, target), sandwiched=sandwiched)
    _check_shapes(layers.where, anatomy, shapes)
    _check_dtypes(checkpoint, names)
    return anatomy


def required(layers: int, projections: str = "qkvo", norms: Sequence[str] = NORMS) -> set[str]:
    """Names without which there is no such drafter. projections: of attention. norms: of a layer."""
    found = {"fc.weight", "hidden_norm.weight", "norm.weight"}
    for number in range(layers):
        at = f"layers.{number}."
        found |= {f"{at}self_attn.{part}_proj.weight" for part in projections} | {f"{at}self_attn.{part}_norm.weight" for part in "qk"}
        found |= {f"{at}mlp.{part}_proj.weight" for part in ("gate", "up", "down")} | {f"{at}{norm}.weight" for norm in norms}
    return found


def expected_shapes(a: Anatomy) -> dict[str, Shape]:
    """Shape of every tensor that a drafter of these sizes may have."""
    found: dict[str, Shape] = {
        "fc.weight": (a.width, a.streams * a.target_width),
        "hidden_norm.weight": (a.width,),
        "norm.weight": (a.width,),
        "embed_tokens.weight": (a.vocabulary, a.width),
        "lm_head.weight": (a.draft_vocabulary, a.width),
        "d2t": (a.draft_vocabulary,),
        "t2d": (a.vocabulary,),
    }
    if a.correction == "selector":
        found |= dict(zip(SELECTOR, ((a.vocabulary, a.rank), (a.vocabulary, a.rank), (a.rank, a.width)), strict=True))
    elif a.rank:
        found |= _correction_shapes(a)
    if a.confidence:
        found |= {f"{CONFIDENCE}.weight": (1, a.confidence), f"{CONFIDENCE}.bias": (1,)}
    for number in range(a.layers):
        found |= {f"layers.{number}.{name}": shape for name, shape in _layer_shapes(a).items()}
    return found


def _correction_shapes(a: Anatomy) -> dict[str, Shape]:
    """Of a bias by the token before, in every form."""
    inside: dict[str, Shape] = {
        "markov_w1.weight": (a.vocabulary, a.rank),
        "markov_w2.weight": (a.draft_vocabulary, a.rank),
        "gate_proj.weight": (a.rank, a.width + a.rank),
        "gate_proj.bias": (a.rank,),
        "joint_proj.weight": (3 * a.rank, 2 * a.rank + a.width),
        "joint_proj.bias": (3 * a.rank,),
    }
    return {f"markov_head.{name}": shape for name, shape in inside.items()}


def _layer_shapes(a: Anatomy) -> dict[str, Shape]:
    queries, keys = a.heads * a.size, a.keys * a.size
    rows = {"q": queries, "k": keys, "v": keys, "o": a.width}
    if a.sandwiched and FIRST_VALUE not in a.names:  # whose keys are its values
        del rows["v"]
    return {
        **{f"self_attn.{name}_proj.weight": (rows[name], queries if name == "o" else a.width) for name in rows},
        **{f"self_attn.{name}_proj.bias": (rows[name],) for name in rows},
        **{f"self_attn.{name}_norm.weight": (a.size,) for name in "qk"},
        **{f"mlp.{name}_proj.weight": (a.inner, a.width) for name in ("gate", "up")},
        "mlp.down_proj.weight": (a.width, a.inner),
        **{f"{norm}.weight": (a.width,) for norm in (*NORMS, *(AROUND_MLP if a.sandwiched else ()))},
        **({SCALAR: (1,)} if a.sandwiched else {}),
        **(_convolution_shapes(a) if a.taps else {}),
    }


def _convolution_shapes(a: Anatomy) -> dict[str, Shape]:
    """Of the convolutions of a layer: taps of both sides, and the projection that they move by."""
    sizes = dict(zip(CONVOLUTION, ((2, a.taps, a.width), (2 * a.taps * a.groups, a.width)), strict=True))
    return {f"{around}.{name}": shape for around in AROUND for name, shape in sizes.items()}


def _require(where: str, names: Mapping[str, str], layers: int, *, sandwiched: bool) -> None:
    needed = required(max(1, layers))
    if sandwiched:
        needed = required(layers, "qkvo" if FIRST_VALUE in names else "qko", (*NORMS, *AROUND_MLP))
        needed |= {f"layers.{number}.{SCALAR}" for number in range(layers)}
    if any(name.startswith("candidate_selector.") for name in names):
        every = [f"layers.{number}.{around}.{name}" for number in range(layers) for around in AROUND for name in CONVOLUTION]
        needed |= {*SELECTOR, *every}
    missing = sorted(needed - names.keys())
    if missing:
        said = counted_names(missing, "is missing", "are missing")
        raise FormatError(f"{where}: holds a block drafter, {said}, expected a whole one; export it again")


def _measured(layers: Record, names: Mapping[str, str], shapes: Mapping[str, Shape], count: int, target: TargetFacts) -> Anatomy:
    """Sizes by the shapes of a few tensors, to which all others are held afterwards."""
    where, (width, fused) = layers.where, _matrix(layers.where, names, shapes, "fc.weight")
    queries, entered = _matrix(where, names, shapes, FIRST_QUERY)
    keys, _ = _matrix(where, names, shapes, "layers.0.self_attn.k_proj.weight")
    inner, _ = _matrix(where, names, shapes, "layers.0.mlp.gate_proj.weight")
    size = shapes["layers.0.self_attn.q_norm.weight"][0] if len(shapes["layers.0.self_attn.q_norm.weight"]) == 1 else 0
    if entered != width or not size or queries % size or keys % size or queries % max(1, keys):
        raise FormatError(
            f"{where}: {names[FIRST_QUERY]} has shape {shapes[FIRST_QUERY]}, expected whole heads of {size} numbers, {width} wide, "
            f"for {keys} numbers of keys; export it again"
        )
    target_width = _target_width(layers, target, width)
    if fused % target_width:
        raise FormatError(
            f"{where}: {names['fc.weight']} reads {fused} numbers, expected whole streams of {target_width}; is it for another target?"
        )
    said = _vocabulary(layers, target)
    drafted = shapes.get("lm_head.weight", shapes.get("d2t", (said,)))[0]
    sizes = count, width, queries // size, keys // size, size, inner, fused // target_width, target_width, said, drafted
    rank = _rank(where, names, shapes)
    return Anatomy(names, *sizes, rank, _confidence(where, names, shapes, (width, width + rank)), *_taps(where, names, shapes))


def _taps(where: str, names: Mapping[str, str], shapes: Mapping[str, Shape]) -> tuple[int, int]:
    """Taps and groups of the convolutions, 0 without; raises FormatError for numbers that are no whole groups."""
    base, kernel = (f"layers.0.{AROUND[0]}.{name}" for name in CONVOLUTION)
    if base not in names or kernel not in names:
        return 0, 0
    (moved, width), taps = _matrix(where, names, shapes, kernel), shapes[base][1] if len(shapes[base]) == 3 else 0
    if not taps or moved % (2 * taps) or width % (moved // (2 * taps) or width + 1):
        raise FormatError(
            f"{where}: {names[kernel]} has shape {shapes[kernel]} beside {names[base]} of {shapes[base]}, expected taps of two sides for "
            "whole groups of numbers; export it again"
        )
    return taps, moved // (2 * taps)


def _rank(where: str, names: Mapping[str, str], shapes: Mapping[str, Shape]) -> int:
    if SELECTOR[0] in names:
        return _matrix(where, names, shapes, SELECTOR[0])[1]
    first, second = "markov_head.markov_w1.weight", "markov_head.markov_w2.weight"
    if not any(name.startswith("markov_head.") for name in names):
        return 0
    if missing := sorted({first, second} - names.keys()):
        raise FormatError(f"{where}: {counted_names(missing, 'is missing', 'are missing')} beside its markov_head; export it again")
    return _matrix(where, names, shapes, first)[1]


def _confidence(where: str, names: Mapping[str, str], shapes: Mapping[str, Shape], able: tuple[int, int]) -> int:
    """Numbers that the confidence head reads, which must be one of those that there are."""
    name = f"{CONFIDENCE}.weight"
    if name not in names:
        return 0
    rows, read = _matrix(where, names, shapes, name)
    if rows != 1 or read not in able:
        told = " or ".join(f"(1, {one})" for one in dict.fromkeys(able))
        raise FormatError(f"{where}: {names[name]} has shape {shapes[name]}, expected {told}; config or file is of another drafter")
    return read


def _matrix(where: str, names: Mapping[str, str], shapes: Mapping[str, Shape], name: str) -> tuple[int, int]:
    shape = shapes[name]
    if len(shape) != 2 or not all(shape):
        raise FormatError(f"{where}: {names[name]} has shape {shape}, expected a matrix; export it again")
    return shape[0], shape[1]


def _target_width(layers: Record, target: TargetFacts, width: int) -> int:
    """Of a stream: the target's, as far as it is known, else what the config says, else the drafter's own."""
    said = layers.get("target_hidden_size")
    return target.width or (said if isinstance(said, int) and not isinstance(said, bool) and said > 0 else width)


def _vocabulary(layers: Record, target: TargetFacts) -> int:
    return target.vocabulary or layers.integer("vocabulary", "vocab_size", None, "a block drafter's class")


def _check_shapes(where: str, a: Anatomy, shapes: Mapping[str, Shape]) -> None:
    expected = expected_shapes(a)
    if strangers := sorted(a.names[name] for name in shapes if name not in expected):
        said = counted_names(strangers, "has no place", "have no place")
        raise FormatError(f"{where}: {said} in a block drafter that is measured; it is not run")
    for name, shape in shapes.items():
        if shape != expected[name]:
            raise FormatError(
                f"{where}: {a.names[name]} has shape {shape}, expected {expected[name]}; config or file is of another drafter"
            )


def _check_dtypes(checkpoint: Checkpoint, names: Mapping[str, str]) -> None:
    for name, stored in names.items():
        if name not in MAPS and (dtype := checkpoint.tensors[stored].dtype) not in FLOATS:
            raise FormatError(
                f"{checkpoint.source.name}: {stored} is stored as {dtype}, expected floats of 16, 32 or 64 bits; measure it unquantised"
            )
