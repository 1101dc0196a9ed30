"""From the names and shapes of a head's tensors to its anatomy, every tensor accounted for.

Shapes are believed, and a config that says otherwise is refused; the number of layers is counted in the names (some producers copy the
target's config). Names here are canonical: a layout's renames are done before. No weight is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from driftcli.errors import FormatError, PairError
from driftcli.families.eagle.anatomy import SCALAR, Anatomy, Heads, expected_shapes, required_names
from driftcli.families.layout import Family, Format
from driftcli.families.quantisation import FLOATS, quantisation
from driftcli.families.record import Record
from driftcli.printable import counted_names
from driftcli.sources.checkpoint import Checkpoint, Stored
from driftcli.target.facts import TargetFacts

LLAMA = "transformers LlamaConfig, as vLLM loads it"
DEEPSEEK = "transformers DeepseekV3Config, as vLLM loads it"
OWN_TENSORS = "the head's own tensors"
MAPS = ("d2t", "t2d", "t2d_indices")
MOST_TOKENS = 1 << 22  # of a vocabulary that the config alone tells (chosen by us: no tokenizer has a fourth of it)


def canonical(checkpoint: Checkpoint, format: Format) -> dict[str, str]:
    """Stored name of each tensor by its canonical one; raises FormatError where two names mean one tensor."""
    names: dict[str, str] = {}
    for stored in checkpoint.tensors:
        name = format.canonical(stored)
        if name in names:
            raise FormatError(
                f"{checkpoint.source.name}: {stored} stands there as {names[name]} too, expected one layer under one name; export it again"
            )
        names[name] = stored
    return names


def dissect(checkpoint: Checkpoint, format: Format, layers: Record, record: Record, target: TargetFacts) -> Anatomy:
    """The sizes of a head; layers: the config of its decoder layers. Raises FormatError for missing, left-over or misshapen tensors and
    PairError when the head was made for another target.
    """
    where = checkpoint.source.name
    stored = {name: checkpoint.tensors[raw] for name, raw in canonical(checkpoint, format).items()}
    depth, family = _count_layers(where, stored), "eagle3" if format.family == "peagle" else format.family
    _require(where, stored, required_names(family, stored, depth))
    anatomy = _sizes(where, family, stored, depth, layers, record, target)
    _check_dtypes(checkpoint, stored)
    _check_shapes(where, stored, anatomy)
    return anatomy


def _count_layers(where: str, stored: Mapping[str, Stored]) -> int:
    found = {int(match[1]) for name in stored if (match := re.match(r"layers\.(\d{1,4})\.", name))}
    if found != set(range(len(found))):
        raise FormatError(f"{where}: has decoder layers {sorted(found)[:8]}, expected numbers from 0 on without gaps; export it again")
    return len(found)


def _require(where: str, stored: Mapping[str, Stored], names: set[str]) -> None:
    if "d2t" in names - stored.keys():
        raise FormatError(
            f"{where}: tensor d2t is missing, which says which of the target's tokens the rows of lm_head stand for; without it vLLM and "
            "SGLang take the first ids and propose wrong tokens without a word (Automodel#2447); export it again"
        )
    if missing := sorted(names - stored.keys()):
        raise FormatError(f"{where}: {counted_names(missing, 'is missing', 'are missing')}, expected a whole EAGLE head; export it again")


def _check_dtypes(checkpoint: Checkpoint, stored: Mapping[str, Stored]) -> None:
    scheme = quantisation(checkpoint.source, checkpoint.config)
    said = f" (quantised: {scheme.value})" if scheme else ""
    for name, tensor in stored.items():
        if name not in MAPS and tensor.dtype not in FLOATS:
            raise FormatError(
                f"{checkpoint.source.name}: {name} is stored as {tensor.dtype}{said}, expected 16, 32 or 64-bit floats; "
                "servers may run it so, but here measure the head that it was quantised from"
            )


def _sizes(
    where: str, family: Family, stored: Mapping[str, Stored], depth: int, layers: Record, record: Record, target: TargetFacts
) -> Anatomy:
    out, _ = _matrix(where, stored, "layers.0.self_attn.o_proj.weight")
    inner, _ = _matrix(where, stored, "layers.0.mlp.gate_proj.weight")
    width = _matrix(where, stored, "fc.weight")[0] if "fc.weight" in stored else out
    _agree(layers, "width", "hidden_size", width)
    _agree(layers, "inner", "intermediate_size", inner)
    record.note("layers", depth, "tensor")
    target_width = _of_target(record, "target_width", "target_hidden_size", width, target.width, target.name)
    vocabulary = _vocabulary(stored, layers, target)
    return Anatomy(
        family=family,
        width=width,
        target_width=target_width,
        inner=inner,
        vocabulary=vocabulary,
        draft_vocabulary=_draft_vocabulary(where, stored, vocabulary, record),
        streams=_streams(where, family, stored, target_width, record),
        layers=depth,
        heads=_latent(where, stored, layers) if _is_latent(stored) else _grouped(where, stored, layers),
        names=frozenset(stored),
    )


def _is_latent(stored: Mapping[str, Stored]) -> bool:
    return "layers.0.self_attn.kv_a_proj_with_mqa.weight" in stored


def _streams(where: str, family: Family, stored: Mapping[str, Stored], target_width: int, record: Record) -> int:
    if family == "eagle" or "fc.weight" not in stored:
        record.note("streams", 1, "tensor")
        return 1
    fused = _matrix(where, stored, "fc.weight")[1]
    if fused % target_width:
        raise FormatError(
            f"{where}: fc.weight reads {fused} inputs, expected a multiple of the target's width {target_width}; export it again"
        )
    record.note("streams", fused // target_width, "tensor")
    return fused // target_width


def _matrix(where: str, stored: Mapping[str, Stored], name: str) -> tuple[int, int]:
    shape = stored[name].shape
    if len(shape) != 2 or 0 in shape:
        raise FormatError(f"{where}: {name} has shape {shape}, expected a matrix; export it again")
    return shape[0], shape[1]


def _agree(record: Record, name: str, key: str, found: int) -> None:
    """Note a size that the tensors tell; raises FormatError when the config says another."""
    if (declared := record.integer(name, key, found, OWN_TENSORS)) != found:
        raise FormatError(
            f"{record.where}: {key} is {declared} in config.json, but {found} in its tensors; the config or the file is of another head"
        )
    record.note(name, found, "tensor")


def _of_target(record: Record, name: str, key: str, default: int | None, theirs: int | None, target: str) -> int:
    """A size that must be the target's, where that is known; raises PairError when the head was made for another."""
    declared = record.integer(name, key, default, "vLLM")
    if theirs is not None and declared != theirs:
        raise PairError(
            f"{record.where}: made for a {name.replace('_', ' ')} of {declared}, but {target} has {theirs}; "
            "name the target it was trained for"
        )
    return declared


def _vocabulary(stored: Mapping[str, Stored], layers: Record, target: TargetFacts) -> int:
    rows = next((stored[name].shape[0] for name in ("embed_tokens.weight", "t2d") if name in stored and stored[name].shape), None)
    found = _of_target(layers, "vocabulary", "vocab_size", rows, target.vocabulary, target.name)
    if found > MOST_TOKENS:
        raise layers.wrong("vocab_size", found, f"at most {MOST_TOKENS} tokens")
    return found


def _draft_vocabulary(where: str, stored: Mapping[str, Stored], vocabulary: int, record: Record) -> int:
    rows = {name: stored[name].shape[0] for name in ("lm_head.weight", "d2t") if name in stored and stored[name].shape}
    found = next(iter(rows.values()), vocabulary)
    if len({*rows.values()}) > 1:
        raise FormatError(f"{where}: lm_head and d2t must agree, saw {rows} rows; export it again")
    _agree(record, "draft_vocabulary", "draft_vocab_size", found)
    return found


def _grouped(where: str, stored: Mapping[str, Stored], layers: Record) -> Heads:
    """Counts from the config, the size of a head from the rows of the projections; raises FormatError where they do not divide."""
    shared, gemma = "layers.0.self_attn.v_proj.weight" not in stored, SCALAR in stored
    count = layers.integer("heads", "num_attention_heads", None, LLAMA)
    keys = layers.integer("kv_heads", "num_global_key_value_heads" if shared else "num_key_value_heads", count, LLAMA)
    rows = {name: _matrix(where, stored, f"layers.0.self_attn.{name}_proj.weight")[0] for name in ("qk" if shared else "qkv")}
    rows.setdefault("v", rows["k"])
    size = rows["q"] // count
    if count % keys or rows["q"] % count or rows["k"] != size * keys or rows["v"] != size * keys or size < 2 or size % 2:
        raise FormatError(
            f"{layers.where}/config.json: {count} heads and {keys} key heads over {rows['q']}, {rows['k']} and {rows['v']} projected rows, "
            "expected heads of one even size; correct num_attention_heads and num_key_value_heads"
        )
    _agree(layers, "head_dim", "global_head_dim" if gemma else "head_dim", size)
    return Heads("grouped", count, keys, size, size, size)


def _latent(where: str, stored: Mapping[str, Stored], layers: Record) -> Heads:
    """MLA: the rotated size from the config, everything else from shapes."""
    attention = "layers.0.self_attn"
    count = layers.integer("heads", "num_attention_heads", None, DEEPSEEK)
    rotated = layers.integer("rotated_size", "qk_rope_head_dim", 64, DEEPSEEK)
    low_query = stored.get(f"{attention}.q_a_proj.weight")
    query = _matrix(where, stored, f"{attention}.{'q_b_proj' if low_query else 'q_proj'}.weight")[0]
    pair, value = _matrix(where, stored, f"{attention}.kv_b_proj.weight")[0], _matrix(where, stored, f"{attention}.o_proj.weight")[1]
    rank = _matrix(where, stored, f"{attention}.kv_a_proj_with_mqa.weight")[0] - rotated
    size, plain = query // count, query // count - rotated
    if query % count or value % count or plain < 1 or rank < 1 or rotated % 2 or pair != count * plain + value:
        raise FormatError(
            f"{layers.where}/config.json: {count} heads that rotate {rotated} of their size, over latent projections of {query}, "
            f"{pair} and {value}, expected numbers that divide; correct num_attention_heads and qk_rope_head_dim"
        )
    ranks = (low_query.shape[0] if low_query and low_query.shape else None, rank)
    for name, number in (("kv_heads", count), ("head_dim", size), ("value_size", value // count)):
        layers.note(name, number, "tensor")
    return Heads("latent", count, count, size, rotated, value // count, ranks)


def _check_shapes(where: str, stored: Mapping[str, Stored], anatomy: Anatomy) -> None:
    """Raise FormatError for a tensor of another shape, a tensor without a place, or one that these sizes need and do not have."""
    expected = expected_shapes(anatomy)
    if left := sorted(stored.keys() - expected.keys()):
        raise FormatError(
            f"{where}: {counted_names(left, 'has no place', 'have no place')} in an EAGLE head; "
            "their effect would be lost, so it is not run"
        )
    grouped = {name for name in expected if name.startswith("fc_norm.")}
    own = {"embed_tokens.weight", *(("lm_head.weight",) if anatomy.family == "eagle3" else ())}
    _require(
        where,
        stored,
        {
            *({"d2t"} if anatomy.draft_vocabulary != anatomy.vocabulary else ()),
            *(own if anatomy.width != anatomy.target_width else ()),
            *(grouped if anatomy.has(r"^fc_norm\.") else ()),
        },
    )
    for name, tensor in stored.items():
        if tensor.shape != expected[name]:
            raise FormatError(
                f"{where}: {name} has shape {tensor.shape}, expected {expected[name]}; the config or the file is of another head"
            )
