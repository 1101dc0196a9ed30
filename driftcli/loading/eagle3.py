"""EAGLE-3 heads in SafeAILab layout (`midlayer.*`), with the EAGLE 3.1 fields: from tensors and config to a drafter, every tensor accounted
for.

Shapes are believed before config counts, and flags are read as vLLM reads them: `norm_output` and `norm_before_residual` default to false
there. Missing embeddings or head come from the target, as every server does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from driftcli.domain import Feedback
from driftcli.drafters.eagle3 import Eagle3, Eagle3Weights
from driftcli.errors import FormatError, PairError
from driftcli.loading.files import Json, Source, read_tensors, require_finite
from driftcli.loading.record import Record
from driftcli.loading.target import LanguageModel

MINIMAL_LAYERS = 7  # below this many target layers the default ids 2, L // 2, L - 3 are no longer three distinct ascending boundaries
LLAMA = "transformers LlamaConfig, as vLLM loads it"


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


def read_eagle3(source: Source, config: dict[str, Json], target: LanguageModel, record: Record) -> Eagle3:
    """The head, ready to draft for `target`.

    Raises FormatError on missing, left-over, misshapen or non-finite tensors, PairError when the head was made for another target.
    """
    tensors = {name.replace("midlayer.", "layers.0.", 1): tensor for name, tensor in read_tensors(source).items()}
    require_finite(source.name, tensors)
    sizes = _sizes(source, tensors, target, record)
    _check_tensors(source, tensors, sizes)
    to_target = _to_target(source, tensors, sizes, record)
    boundaries = _capture(config, len(target.layers), sizes.streams, target, record)
    rope = rope_config(source, config, sizes.head_dim, sizes.width, sizes.heads)
    rope_values = rope.rope_parameters or {}
    record.note("rope", ", ".join(f"{key} {value}" for key, value in sorted(rope_values.items())), _rope_source(config))
    record.integer("max_position_embeddings", "max_position_embeddings", 2048, LLAMA)
    return Eagle3(
        weights=_weights(tensors, sizes, to_target, target, record),
        boundaries=boundaries,
        head_dim=sizes.head_dim,
        eps=record.number("rms_norm_eps", "rms_norm_eps", 1e-6, LLAMA),
        residual=_switch(record, "residual", "norm_before_residual"),
        feedback=_switch(record, "feedback", "norm_output"),
        rope_config=rope,
    )


def _switch(record: Record, name: str, key: str) -> Feedback:
    value: Feedback = "normed" if record.flag(name, key, False, "vLLM") else "raw"
    record.note(name, value, record.fields[name].source)
    return value


def _sizes(source: Source, tensors: dict[str, Tensor], target: LanguageModel, record: Record) -> Sizes:
    target_width = int(target.config.hidden_size)
    if missing := [
        name for name in ("fc.weight", "layers.0.self_attn.q_proj.weight", "layers.0.mlp.gate_proj.weight") if name not in tensors
    ]:
        raise FormatError(f"{source.name}: no tensor {missing[0]}, expected a whole EAGLE-3 head; export it again")
    width, fused = tensors["fc.weight"].shape if tensors["fc.weight"].dim() == 2 else (0, 0)
    if fused % target_width or fused == 0:
        raise PairError(
            f"{source.name}: fc.weight reads {fused} inputs, which is no multiple of the hidden size {target_width} of {target.source.name}; "
            "name the target that this head was trained for"
        )
    heads = record.integer("heads", "num_attention_heads", None, LLAMA)
    sizes = Sizes(
        width=width,
        target_width=target_width,
        heads=heads,
        kv_heads=record.integer("kv_heads", "num_key_value_heads", heads, LLAMA),
        head_dim=record.integer("head_dim", "head_dim", max(1, width // heads), LLAMA),
        inner=tensors["layers.0.mlp.gate_proj.weight"].shape[0],
        vocabulary=int(target.config.vocab_size),
        draft_vocabulary=_draft_vocabulary(tensors, target, record),
        streams=fused // target_width,
    )
    declared = record.integer("vocabulary", "vocab_size", None, LLAMA)
    if declared != sizes.vocabulary:
        raise PairError(
            f"{source.name}: made for a vocabulary of {declared}, but {target.source.name} has {sizes.vocabulary}; name the target it was trained for"
        )
    for name, value in (
        ("width", width),
        ("target_width", target_width),
        ("streams", sizes.streams),
        ("draft_vocabulary", sizes.draft_vocabulary),
    ):
        record.note(name, value, "tensor")
    return sizes


def _draft_vocabulary(tensors: dict[str, Tensor], target: LanguageModel, record: Record) -> int:
    rows = [tensors[name].shape[0] for name in ("lm_head.weight", "d2t") if name in tensors and tensors[name].dim() > 0]
    found = rows[0] if rows else int(target.config.vocab_size)
    declared = record.integer("declared_draft_vocabulary", "draft_vocab_size", found, "the head's own rows")
    if len({*rows, declared}) > 1:
        raise FormatError(
            f"{record.where}: lm_head, d2t and draft_vocab_size must agree, saw {rows} rows and draft_vocab_size {declared}; export it again"
        )
    return found


def _expected_shapes(s: Sizes) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Shapes of the tensors that a head must have, and of those that it may have."""
    attention, mlp = "layers.0.self_attn", "layers.0.mlp"
    required = {
        "fc.weight": (s.width, s.streams * s.target_width),
        f"{attention}.q_proj.weight": (s.heads * s.head_dim, 2 * s.width),
        f"{attention}.k_proj.weight": (s.kv_heads * s.head_dim, 2 * s.width),
        f"{attention}.v_proj.weight": (s.kv_heads * s.head_dim, 2 * s.width),
        f"{attention}.o_proj.weight": (s.width, s.heads * s.head_dim),
        f"{mlp}.gate_proj.weight": (s.inner, s.width),
        f"{mlp}.up_proj.weight": (s.inner, s.width),
        f"{mlp}.down_proj.weight": (s.width, s.inner),
        **{f"layers.0.{norm}.weight": (s.width,) for norm in ("hidden_norm", "input_layernorm", "post_attention_layernorm")},
        "norm.weight": (s.width,),
    }
    if s.draft_vocabulary != s.vocabulary:
        required["d2t"] = (s.draft_vocabulary,)
    if s.width != s.target_width:
        required["embed_tokens.weight"] = (s.vocabulary, s.width)
        required["lm_head.weight"] = (s.draft_vocabulary, s.width)
    optional = {
        "embed_tokens.weight": (s.vocabulary, s.width),
        "lm_head.weight": (s.draft_vocabulary, s.width),
        "d2t": (s.draft_vocabulary,),
        "t2d": (s.vocabulary,),
        **{f"fc_norm.{number}.weight": (s.target_width,) for number in range(s.streams)},
    }
    return required, optional


def _check_tensors(source: Source, tensors: dict[str, Tensor], sizes: Sizes) -> None:
    required, optional = _expected_shapes(sizes)
    norms = [name for name in optional if name.startswith("fc_norm.")]
    if any(name in tensors for name in norms):
        required |= {name: optional[name] for name in norms}
    if missing := sorted(required.keys() - tensors.keys()):
        raise FormatError(
            f"{source.name}: {len(missing)} tensors are missing ({', '.join(missing[:3])}), expected a whole EAGLE-3 head; export it again"
        )
    known = required | optional
    if left := sorted(tensors.keys() - known.keys()):
        raise FormatError(
            f"{source.name}: {len(left)} tensors have no place in an EAGLE-3 head ({', '.join(left[:3])}); their effect would be lost, so it is not run"
        )
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != known[name]:
            raise FormatError(
                f"{source.name}: {name} has shape {tuple(tensor.shape)}, expected {known[name]}; the config or the file is of another head"
            )


def _to_target(source: Source, tensors: dict[str, Tensor], sizes: Sizes, record: Record) -> Tensor:
    """Target id of each draft id, from d2t as offset; as absolute only where t2d proves it."""
    ids = torch.arange(sizes.draft_vocabulary)
    if "d2t" not in tensors:
        record.note("vocab_map", "none", "tensor")
        return ids
    d2t = tensors["d2t"]
    if d2t.is_floating_point() or d2t.dtype == torch.bool:
        raise FormatError(
            f"{source.name}: d2t is stored as {d2t.dtype}, expected whole numbers (a cast to a float type destroys ids); export it again"
        )
    offset, absolute = ids + d2t.long(), d2t.long()
    kind = _map_kind(offset, absolute, tensors.get("t2d"), sizes.vocabulary)
    if kind == "broken":
        raise FormatError(
            f"{source.name}: d2t maps outside the target's {sizes.vocabulary} tokens, twice to one, or against t2d, expected offsets; export it again"
        )
    record.note("vocab_map", kind, "tensor")
    return offset if kind == "offset" else absolute


def _map_kind(offset: Tensor, absolute: Tensor, t2d: Tensor | None, vocabulary: int) -> str:
    def sound(ids: Tensor) -> bool:
        inside = bool((ids >= 0).all() and (ids < vocabulary).all())
        return inside and len(torch.unique(ids)) == len(ids) and (t2d is None or bool(t2d.bool()[ids].all()))

    if sound(offset):
        return "offset"
    proven = t2d is not None or all(a < b for a, b in pairwise(absolute.tolist()))
    return "absolute" if proven and sound(absolute) else "broken"


def _capture(config: dict[str, Json], layers: int, streams: int, target: LanguageModel, record: Record) -> tuple[int, ...]:
    """Boundaries read by the head; raises FormatError where ids and streams disagree and PairError for a target too small."""
    nested = config.get("eagle_config")
    inner = nested.get("eagle_aux_hidden_state_layer_ids") if isinstance(nested, dict) else None
    top = config.get("eagle_aux_hidden_state_layer_ids")
    if top is None and inner is None:
        if layers < MINIMAL_LAYERS:
            raise PairError(
                f"{target.source.name}: {layers} layers, but the default capture layers 2, L/2, L-3 need at least {MINIMAL_LAYERS}; "
                "use a deeper target or a head that names its layers in eagle_aux_hidden_state_layer_ids"
            )
        boundaries: tuple[int, ...] = (2, layers // 2, layers - 3)
        source = "default:vLLM, SGLang and SafeAILab"
    else:
        ids = _layer_ids(top if top is not None else inner, record)
        output = top is None and ids == (1, layers // 2 - 1, layers - 4)
        boundaries = tuple(sorted({number + 1 if output else number for number in ids}))
        key = "eagle_aux_hidden_state_layer_ids" if top is not None else "eagle_config.eagle_aux_hidden_state_layer_ids"
        source = f"config:{key} read as {'layer outputs' if output else 'boundaries'}"
    if len(boundaries) != streams or boundaries[-1] > layers:
        raise FormatError(
            f"{record.where}: reads {streams} streams of a target with {layers} layers, but its capture layers are {list(boundaries)}; correct the layer ids"
        )
    record.note("capture", boundaries, source)
    return boundaries


def _layer_ids(value: Json, record: Record) -> tuple[int, ...]:
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in value)
    ):
        raise FormatError(f"{record.where}/config.json: eagle_aux_hidden_state_layer_ids is {value!r}, expected a list of layer numbers")
    return tuple(number for number in value if isinstance(number, int))


def rope_config(source: Source, config: dict[str, Json], head_dim: int, width: int, heads: int) -> LlamaConfig:
    """The head's RoPE settings through transformers, from either spelling (`rope_parameters`, or `rope_theta` with `rope_scaling`)."""
    keys = ("rope_theta", "rope_scaling", "rope_parameters", "max_position_embeddings")
    given: dict[str, Any] = {key: config[key] for key in keys if config.get(key) is not None}  # transformers checks what it is given
    try:
        built = LlamaConfig(hidden_size=width, num_attention_heads=heads, head_dim=head_dim, **given)
        LlamaRotaryEmbedding(built)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ZeroDivisionError) as error:
        raise FormatError(
            f"{source.name}/config.json: its RoPE settings cannot be used ({error}); expected a RoPE type that transformers knows"
        ) from error
    return built


def _rope_source(config: dict[str, Json]) -> str:
    found = [key for key in ("rope_parameters", "rope_theta", "rope_scaling") if config.get(key) is not None]
    return f"config:{', '.join(found)}" if found else f"default:{LLAMA}"


def _weights(tensors: dict[str, Tensor], sizes: Sizes, to_target: Tensor, target: LanguageModel, record: Record) -> Eagle3Weights:
    like = target.head
    place = {name: tensor.to(device=like.device, dtype=like.dtype) for name, tensor in tensors.items() if tensor.is_floating_point()}
    norms = tuple(place[f"fc_norm.{number}.weight"] for number in range(sizes.streams)) if "fc_norm.0.weight" in place else ()
    record.note("pre_fc_norm", "per stream" if norms else "none", "tensor")
    to_draft = torch.full((sizes.vocabulary,), -1).index_copy(0, to_target, torch.arange(sizes.draft_vocabulary)).to(like.device)
    embedding = _own_or_shared("embedding", place.get("embed_tokens.weight"), target.embedding.to(like), record)
    tied = record.flag("tie_word_embeddings", "tie_word_embeddings", False, LLAMA)
    spare_head = (embedding if tied else target.head)[to_target.to(like.device)]
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
        head=_own_or_shared("head", place.get("lm_head.weight"), spare_head, record),
        to_target=to_target.to(like.device),
        to_draft=to_draft,
    )


def _own_or_shared(name: str, own: Tensor | None, shared: Tensor, record: Record) -> Tensor:
    if own is None:
        record.note(name, "target's", "tensor:absent, shared as every server does")
        return shared
    same = own.shape == shared.shape and torch.equal(own, shared)
    record.note(name, "own, equal to the target's" if same else "own", "tensor")
    return own
