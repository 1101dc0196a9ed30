"""EAGLE-3 heads in SafeAILab layout (`midlayer.*`), with the EAGLE 3.1 fields: from tensors and config to a drafter, every tensor accounted
for.

Shapes are believed, and a config that says otherwise is refused; flags are read as vLLM reads them: `norm_output` and
`norm_before_residual` default to false there. Missing embeddings or head come from the target, as every server does it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from driftcli.domain import Feedback
from driftcli.drafters.eagle3 import Eagle3, Eagle3Weights
from driftcli.errors import FormatError, PairError
from driftcli.loading.capture_layers import capture_layers, nested_config
from driftcli.loading.files import Source, read_tensors, require_finite
from driftcli.loading.record import Record
from driftcli.loading.rope import LLAMA, rope_config
from driftcli.loading.target import LanguageModel
from driftcli.loading.vocab_map import target_ids

NORMS = ("hidden_norm", "input_layernorm", "post_attention_layernorm")
PROJECTIONS = tuple(f"self_attn.{name}_proj" for name in "qkvo") + tuple(f"mlp.{name}_proj" for name in ("gate", "up", "down"))
ALWAYS = ("fc.weight", "norm.weight", *(f"layers.0.{name}.weight" for name in (*PROJECTIONS, *NORMS)))
SHARED = ("embed_tokens.weight", "lm_head.weight")
STORED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
OWN_TENSORS = "the head's own tensors"


@dataclass(frozen=True)
class Sizes:
    """Widths and counts of a head, from tensor shapes where they can tell."""

    width: int
    target_width: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocabulary: int
    draft_vocabulary: int
    streams: int


def read_eagle3(source: Source, target: LanguageModel, record: Record) -> Eagle3:
    """The head, ready to draft for `target`; `record` holds its config and takes down every field with its provenance.

    Raises FormatError on missing, left-over, misshapen or non-finite tensors, PairError when the head was made for another target.
    """
    tensors = _named(source, read_tensors(source))
    _check_names(source, tensors)
    require_finite(source.name, tensors)
    _check_switches(record)
    sizes = _sizes(source, tensors, target, record)
    _check_shapes(source, tensors, sizes)
    to_target = target_ids(tensors, sizes.draft_vocabulary, sizes.vocabulary, record)
    boundaries = capture_layers(record, len(target.layers), sizes.streams, target.source.name)
    rope = rope_config(record, sizes.head_dim, sizes.width, sizes.heads)
    return Eagle3(
        weights=_weights(source, tensors, to_target, target, record),
        boundaries=boundaries,
        head_dim=sizes.head_dim,
        eps=record.number("rms_norm_eps", "rms_norm_eps", 1e-6, LLAMA),
        residual=_switch(record, "residual", "norm_before_residual"),
        feedback=_switch(record, "feedback", "norm_output"),
        rope_config=rope,
    )


def _named(source: Source, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by one spelling of the layer's name."""
    tensors = {name.replace("midlayer.", "layers.0.", 1) if name.startswith("midlayer.") else name: stored[name] for name in stored}
    if len(tensors) < len(stored):
        both = sorted(name for name in stored if name.startswith("midlayer.") and name.replace("midlayer.", "layers.0.", 1) in stored)
        raise FormatError(f"{source.name}: {both[0]} stands there as layers.0 too, expected one layer under one name; export it again")
    return tensors


def _check_names(source: Source, tensors: dict[str, Tensor]) -> None:
    if missing := sorted(set(ALWAYS) - tensors.keys()):
        raise _missing(source, missing)
    norms = {name for name in tensors if name.startswith("fc_norm.")}
    known = {*ALWAYS, *SHARED, "d2t", "t2d", *norms}
    if left := sorted(tensors.keys() - known):
        raise FormatError(
            f"{source.name}: {len(left)} tensors have no place in an EAGLE-3 head ({', '.join(left[:3])}); "
            "their effect would be lost, so it is not run"
        )
    for name in (*ALWAYS, *SHARED, *sorted(norms)):
        if name in tensors and tensors[name].dtype not in STORED:
            raise FormatError(
                f"{source.name}: {name} is stored as {tensors[name].dtype}, expected 16, 32 or 64-bit floats; export it unquantised"
            )


def _missing(source: Source, names: list[str]) -> FormatError:
    return FormatError(
        f"{source.name}: {len(names)} tensors are missing ({', '.join(names[:3])}), expected a whole EAGLE-3 head; export it again"
    )


def _check_switches(record: Record) -> None:
    """Refuse what a config asks for and this reading does not do; without it the numbers would be of another drafter."""
    activation = record.text("activation", "hidden_act", "silu", LLAMA)
    if activation != "silu":
        raise FormatError(
            f"{record.where}/config.json: hidden_act is {activation!r}, expected silu, the only one that EAGLE-3 heads are served with"
        )
    nested = Record(record.where, nested_config(record))
    if record.flag("norm_before_fc", "norm_before_fc", False, "vLLM") or nested.flag("norm_before_fc", "norm_before_fc", False, "vLLM"):
        raise FormatError(f"{record.where}/config.json: norm_before_fc is true, but there is no input_norm.weight; export it again")
    record.flag("declared_fc_norm", "fc_norm", False, "vLLM")


def _switch(record: Record, name: str, key: str) -> Feedback:
    value: Feedback = "normed" if record.flag(name, key, False, "vLLM") else "raw"
    record.note(name, value, record.fields[name].source)
    return value


def _sizes(source: Source, tensors: dict[str, Tensor], target: LanguageModel, record: Record) -> Sizes:
    width, fused = _matrix(source, tensors, "fc.weight")
    inner, _ = _matrix(source, tensors, "layers.0.mlp.gate_proj.weight")
    _agree(record, "width", "hidden_size", width)
    _agree(record, "inner", "intermediate_size", inner)
    target_width = _of_target(record, "target_width", "target_hidden_size", width, (int(target.config.hidden_size), target.source.name))
    vocabulary = _of_target(record, "vocabulary", "vocab_size", None, (int(target.config.vocab_size), target.source.name))
    if fused % target_width:
        raise FormatError(
            f"{source.name}: fc.weight reads {fused} inputs, expected a multiple of the target's width {target_width}; export it again"
        )
    record.note("streams", fused // target_width, "tensor")
    heads, kv_heads, head_dim = _attention(record, width)
    return Sizes(
        width=width,
        target_width=target_width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        inner=inner,
        vocabulary=vocabulary,
        draft_vocabulary=_draft_vocabulary(source, tensors, vocabulary, record),
        streams=fused // target_width,
    )


def _matrix(source: Source, tensors: dict[str, Tensor], name: str) -> tuple[int, int]:
    shape = tuple(tensors[name].shape)
    if len(shape) != 2 or 0 in shape:
        raise FormatError(f"{source.name}: {name} has shape {shape}, expected a matrix; export it again")
    return shape[0], shape[1]


def _agree(record: Record, name: str, key: str, found: int) -> None:
    """Note a size that the tensors tell; raises FormatError when the config says another."""
    if (declared := record.integer(name, key, found, OWN_TENSORS)) != found:
        raise FormatError(
            f"{record.where}: {key} is {declared} in config.json, but {found} in its tensors; the config or the file is of another head"
        )
    record.note(name, found, "tensor")


def _of_target(record: Record, name: str, key: str, default: int | None, target: tuple[int, str]) -> int:
    """A size that must be the target's, given as (size, name); raises PairError when the head was made for another."""
    declared = record.integer(name, key, default, "vLLM")
    if declared != target[0]:
        raise PairError(
            f"{record.where}: made for a {name.replace('_', ' ')} of {declared}, but {target[1]} has {target[0]}; "
            "name the target it was trained for"
        )
    return declared


def _attention(record: Record, width: int) -> tuple[int, int, int]:
    """Query heads, key heads and the size of one; raises FormatError where they do not divide."""
    heads = record.integer("heads", "num_attention_heads", None, LLAMA)
    kv_heads = record.integer("kv_heads", "num_key_value_heads", heads, LLAMA)
    own_size = record.config.get("head_dim") is not None
    if heads % kv_heads or (not own_size and width % heads):
        raise FormatError(
            f"{record.where}/config.json: {heads} heads and {kv_heads} key heads over a width of {width}, expected numbers that divide; "
            "correct num_attention_heads and num_key_value_heads"
        )
    head_dim = record.integer("head_dim", "head_dim", max(1, width // heads), LLAMA)
    if head_dim % 2:
        raise FormatError(
            f"{record.where}/config.json: heads of size {head_dim}, expected an even size that RoPE can rotate; correct the counts"
        )
    return heads, kv_heads, head_dim


def _draft_vocabulary(source: Source, tensors: dict[str, Tensor], vocabulary: int, record: Record) -> int:
    rows = {name: tensors[name].shape[0] for name in ("lm_head.weight", "d2t") if name in tensors and tensors[name].dim()}
    found = next(iter(rows.values()), vocabulary)
    if len({*rows.values()}) > 1:
        raise FormatError(f"{source.name}: lm_head and d2t must agree, saw {rows} rows; export it again")
    _agree(record, "draft_vocabulary", "draft_vocab_size", found)
    return found


def _expected_shapes(s: Sizes) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that a head may have."""
    attention, mlp = "layers.0.self_attn", "layers.0.mlp"
    return {
        "fc.weight": (s.width, s.streams * s.target_width),
        f"{attention}.q_proj.weight": (s.heads * s.head_dim, 2 * s.width),
        f"{attention}.k_proj.weight": (s.kv_heads * s.head_dim, 2 * s.width),
        f"{attention}.v_proj.weight": (s.kv_heads * s.head_dim, 2 * s.width),
        f"{attention}.o_proj.weight": (s.width, s.heads * s.head_dim),
        f"{mlp}.gate_proj.weight": (s.inner, s.width),
        f"{mlp}.up_proj.weight": (s.inner, s.width),
        f"{mlp}.down_proj.weight": (s.width, s.inner),
        **{f"layers.0.{norm}.weight": (s.width,) for norm in NORMS},
        "norm.weight": (s.width,),
        "embed_tokens.weight": (s.vocabulary, s.width),
        "lm_head.weight": (s.draft_vocabulary, s.width),
        "d2t": (s.draft_vocabulary,),
        "t2d": (s.vocabulary,),
        **{f"fc_norm.{number}.weight": (s.target_width,) for number in range(s.streams)},
    }


def _check_shapes(source: Source, tensors: dict[str, Tensor], sizes: Sizes) -> None:
    expected = _expected_shapes(sizes)
    norms = {name for name in expected if name.startswith("fc_norm.")}
    needed = {
        *({"d2t"} if sizes.draft_vocabulary != sizes.vocabulary else ()),
        *(SHARED if sizes.width != sizes.target_width else ()),
        *(norms if any(name.startswith("fc_norm.") for name in tensors) else ()),
    }
    if missing := sorted(needed - tensors.keys()):
        raise _missing(source, missing)
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != expected.get(name):
            wanted = expected.get(name, f"no such tensor beside {sizes.streams} streams")
            raise FormatError(
                f"{source.name}: {name} has shape {tuple(tensor.shape)}, expected {wanted}; the config or the file is of another head"
            )


def _weights(source: Source, tensors: dict[str, Tensor], to_target: Tensor, target: LanguageModel, record: Record) -> Eagle3Weights:
    like = target.head
    place = {name: tensor.to(like) for name, tensor in tensors.items() if name not in ("d2t", "t2d")}
    require_finite(f"{source.name} as {like.dtype}", place)
    norms = tuple(place[name] for name in sorted(place, key=lambda name: (len(name), name)) if name.startswith("fc_norm."))
    record.note("pre_fc_norm", "per stream" if norms else "none", "tensor")
    to_target = to_target.to(like.device)
    to_draft = torch.full((len(target.head),), -1, device=like.device)
    embedding = _own_or_shared("embedding", place.get("embed_tokens.weight"), target.embedding.to(like), record)
    layer = {name.removeprefix("layers.0."): tensor for name, tensor in place.items() if name.startswith("layers.0.")}
    return Eagle3Weights(
        fc=place["fc.weight"],
        fc_norm=norms,
        embedding_norm=layer["input_layernorm.weight"],
        hidden_norm=layer["hidden_norm.weight"],
        q=layer["self_attn.q_proj.weight"],
        k=layer["self_attn.k_proj.weight"],
        v=layer["self_attn.v_proj.weight"],
        o=layer["self_attn.o_proj.weight"],
        mlp_norm=layer["post_attention_layernorm.weight"],
        gate=layer["mlp.gate_proj.weight"],
        up=layer["mlp.up_proj.weight"],
        down=layer["mlp.down_proj.weight"],
        final_norm=place["norm.weight"],
        embedding=embedding,
        head=_head(place, embedding, to_target, target, record),
        to_target=to_target,
        to_draft=to_draft.index_copy(0, to_target, torch.arange(len(to_target), device=like.device)),
    )


def _head(place: dict[str, Tensor], embedding: Tensor, to_target: Tensor, target: LanguageModel, record: Record) -> Tensor:
    """The head's own output rows, else its own embedding's where the config ties them, else the target's."""
    tied = record.flag("tie_word_embeddings", "tie_word_embeddings", False, LLAMA)
    if tied and "lm_head.weight" not in place and "embed_tokens.weight" in place:
        record.note("head", "own embedding", "config:tie_word_embeddings")
        return embedding[to_target]
    return _own_or_shared("head", place.get("lm_head.weight"), target.head[to_target], record)


def _own_or_shared(name: str, own: Tensor | None, shared: Tensor, record: Record) -> Tensor:
    if own is None:
        record.note(name, "target's", "default:vLLM, SGLang and SafeAILab, where the tensor is absent")
        return shared
    same = own.shape == shared.shape and torch.equal(own, shared)
    record.note(name, "own, equal to the target's" if same else "own", "tensor")
    return own
