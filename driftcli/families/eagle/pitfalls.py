"""Known traps of a layout and its producer that this very file walks into, a sentence each: what differs, where, and what to do.

Each is read off config and tensor names alone; whether it costs tokens only a run can tell.
"""

from __future__ import annotations

from collections.abc import Callable

from driftcli.domain import System
from driftcli.families.eagle.capture_layers import KEY, READERS, layer_ids
from driftcli.families.eagle.declaration import Declaration
from driftcli.families.eagle.readings import SERVERS, Reading, asks_for_joint_norm, feeds_back_raw_whatever_it_says
from driftcli.families.map_kinds import MARKED
from driftcli.families.rope import number

V1: System = "as_served:vllm-v1"
ORIGINAL = {"original_max_position_embeddings"}  # where it stands SGLang takes the declared range as it is


def pitfalls(declaration: Declaration) -> tuple[str, ...]:
    """The traps that apply, in the order of the step: inputs, fusion, layers, output, feedback."""
    return tuple(said for trap in TRAPS if (said := trap(declaration)) is not None)


def _layer_ids(d: Declaration) -> str | None:
    named = layer_ids(d.head.record) if d.anatomy.streams > 1 else {}
    captured = {system: reading.capture.value for system, reading in d.readings.items() if isinstance(reading, Reading)}
    if not named or d.head.target.layers is None or len(set(captured.values())) < 2:
        return None
    held = " and ".join(f"{list(ids.ids)} under {key}" for key, ids in named.items())
    early, others = captured.pop(V1, None), set(captured.values())
    if early is not None and len(others) == 1:
        return (
            f"layer ids {held} are boundaries to vLLM's V1 runner (CPU, and what V2 cannot run): it captures {_listed(early)}, all others "
            f"{_listed(*others)}; write the latter under {KEY} at the top level too"
        )
    captured |= {} if early in (None, captured.get("as_served:vllm")) else {V1: early}
    shown = "; ".join(f"{READERS[system]} captures {_listed(value)}" for system, value in captured.items())
    return (
        f"layer ids {held} mean different streams to different readers (boundary b is the stream after b layers): {shown}; write the "
        f"boundaries of training under {KEY} at the top level for vLLM, and layer outputs under eagle_config for SGLang"
    )


def _listed(boundaries: tuple[int, ...] | str) -> str:
    return boundaries if isinstance(boundaries, str) else ", ".join(map(str, boundaries))


def _unserved_map(d: Declaration) -> str | None:
    kind = d.head.record.fields["vocab_map"].value
    if kind == MARKED:
        return "d2t holds zeros alone; t2d is read in its place here, but vLLM and SGLang would propose the target's first ids"
    if kind != "absolute":
        return None
    return "d2t holds absolute ids; it is read so here, but vLLM and SGLang add them to the row number and would propose wrong tokens"


def _is_served(d: Declaration) -> bool:
    """Whether some server can run it."""
    return any(isinstance(d.readings[system], Reading) for system in SERVERS)


def _own_embedding(d: Declaration) -> str | None:
    if (
        not _is_served(d)
        or "embed_tokens.weight" not in d.anatomy.names
        or d.anatomy.width != d.anatomy.target_width
        or d.head.is_speculators
    ):
        return None
    return (
        "brings embeddings of its own: vLLM keeps them, SGLang puts the target's in their place; if they differ the two compute otherwise"
    )


def _stray_norms(d: Declaration) -> str | None:
    if "input_norm.weight" in d.anatomy.names and not asks_for_joint_norm(d.head.record):
        return "input_norm.weight is there but norm_before_fc is off: vLLM and SGLang leave it out without a word; set norm_before_fc"
    if d.anatomy.has(r"^fc_norm\.") and isinstance(d.readings["as_served:vllm"], Exception):
        return f"served by vLLM it fails: {d.readings['as_served:vllm']}"
    return None


def _fusion_bias(d: Declaration) -> str | None:
    if d.anatomy.family == "eagle" and "fc.bias" in d.anatomy.names:
        return "fc.bias is left out by vLLM, which builds fc without one; SafeAILab and SGLang add it"
    if d.anatomy.family == "eagle" and isinstance(d.readings["as_served:sglang"], Reading):
        return "has no fc.bias, but SGLang builds fc with one and the file gives it no value; check what it starts from"
    return None


def _double_norm(d: Declaration) -> str | None:
    trained = d.readings["as_trained"]
    if not isinstance(trained, Reading) or trained.hidden_norms.value == 1:
        return None
    return (
        "ModelOpt since December 2025 norms the hidden stream twice in training (input_layernorm, then hidden_norm), servers once; "
        "the same only where input_layernorm's gain is constant"
    )


def _exported_rope(d: Declaration) -> str | None:
    trained = d.readings["as_trained"]
    if d.head.format.producer != "ModelOpt" or not isinstance(trained, Reading) or trained.rope.value == d.reading().rope.value:
        return None
    original = d.reading().rope.value.get("original_max_position_embeddings")
    return (
        f"ModelOpt puts yarn in at export: trained with the default type on at most {original} tokens, so served angles differ from trained"
    )


def _residual(d: Declaration) -> str | None:
    stated = "norm_before_residual" in d.head.record.config
    if d.head.is_speculators and not stated and not d.anatomy.parallel:
        return "norm_before_residual is absent: vLLM takes true, the speculators class false; write the value of training"
    if stated and d.head.record.is_on("norm_before_residual") and not d.head.is_speculators:
        return "norm_before_residual is on, which SGLang does not implement: its residual stays raw"
    return None


def _deeper_layers(d: Declaration) -> str | None:
    if d.anatomy.layers == 1 or d.anatomy.family == "eagle" or d.head.is_speculators:
        return None
    has = [norm for norm in ("input_layernorm", "hidden_norm") if d.anatomy.has(rf"^layers\.[1-9]\d*\.{norm}")]
    return (
        f"layers past the first hold {' and '.join(has)}: vLLM norms there with input_layernorm and SGLang with hidden_norm, "
        "and a gain that the file lacks is 1"
    )


def _biases(d: Declaration) -> str | None:
    if not d.anatomy.has(r"self_attn\.[qkvo]_proj\.bias$"):
        asked = d.head.layers.is_on("attention_bias") and d.anatomy.heads.kind == "grouped"
        return "attention_bias is on but the file holds no biases: vLLM builds them, and nothing gives them a value" if asked else None
    used = [READERS[system] for system, reading in d.readings.items() if isinstance(reading, Reading) and reading.biases.value]
    rule = "vLLM where attention_bias or qkv_bias says so, SGLang never in EAGLE-3"
    return f"has attention biases, which {' and '.join(used) or 'no system'} adds: {rule}"


def _layer_count(d: Declaration) -> str | None:
    declared = d.head.layers.config.get("num_hidden_layers", d.anatomy.layers)
    if not isinstance(declared, int) or declared >= d.anatomy.layers:
        return None  # more than are there is why a server cannot run it
    return f"num_hidden_layers is {declared}, the file holds {d.anatomy.layers}: vLLM stops at what is left, SGLang leaves it out"


def _short_range(d: Declaration) -> str | None:
    """SGLang derives the range that a head admits from its config alone; read in its source, configs/model_config.py."""
    target, scaling = d.head.target.positions, d.head.layers.get("rope_scaling")
    factor = None
    if isinstance(scaling, dict) and not ORIGINAL & scaling.keys() and scaling.get("rope_type") != "llama3":
        factor = number(scaling.get("factor"))
    admitted = d.positions if factor is None else int(d.positions * factor)
    stated = d.head.record.fields["max_position_embeddings"].source.startswith("config")
    if target is None or admitted >= target or not stated or d.head.is_speculators or d.head.format.producer == "NeMo":
        return None
    return (
        f"admits {admitted} positions, the target {target}: SGLang 0.5.23 stops at start with a ValueError unless --context-length is at "
        f"most {admitted} or SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1 is set (sglang#6783)"
    )


def _older_vllm(d: Declaration) -> str | None:
    if not d.head.is_speculators or d.anatomy.parallel:
        return None
    lost = [key for key in ("norm_output", "fc_norm") if d.head.record.is_on(key)]
    if lost:
        return f"{' and '.join(lost)} of a speculators config are left out by vLLM before June 2026 (vllm#46488): serve it with a newer one"
    if d.anatomy.has(r"self_attn\.q_norm"):
        return "its q_norm and k_norm have no place in vLLM before its Qwen3 class for EAGLE-3 (vllm#43132): serve it with a newer one"
    return None


def _window(d: Declaration) -> str | None:
    windows = [window for window in d.reading().windows.value if window is not None]
    if not windows or d.head.is_speculators:
        return None
    return f"a sliding window of {windows[0]} is in the config; SGLang takes one from --speculative-draft-window-size alone"


def _dynamic_rope(d: Declaration) -> str | None:
    scaling = d.head.layers.get("rope_scaling") or d.head.layers.get("rope_parameters")
    if not isinstance(scaling, dict) or "dynamic" not in (scaling.get("type"), scaling.get("rope_type")):
        return None
    return "RoPE of type dynamic: vLLM never stretches its base, SGLang always does, trainers only beyond the declared range"


def _logits(d: Declaration) -> str | None:
    trained = d.readings["as_trained"]
    if not isinstance(trained, Reading) or trained.logits_from.value == "normed" or d.anatomy.family == "eagle":
        return None
    return "norm_output is false: SpecForge up to 0.2.0 then trains without the final norm, while vLLM and SGLang apply it before lm_head"


def _inverted_feedback(d: Declaration) -> str | None:
    if not feeds_back_raw_whatever_it_says(d.head) or not d.head.record.is_on("norm_output"):
        return None
    return (
        "norm_output is true: SpecForge up to 0.2.0 trains on the raw state whatever the flag says, while vLLM and SGLang feed back the "
        "normed one; the first guess is the same, the deeper ones suffer. Later versions mean what they say, and nothing in the file tells "
        "which made it: the wiring probe does, so change the flag only on its word"
    )


def _unflagged_feedback(d: Declaration) -> str | None:
    if d.head.format.producer != "SpecDrift" or "norm_output" in d.head.record.config:
        return None
    return (
        "the fork that writes t2d_indices feeds back the normed state and no flag says so: servers feed back the raw one; set norm_output"
    )


def _silent_class(d: Declaration) -> str | None:
    if not d.head.is_speculators or "model_type" in d.head.layers.config:
        return None
    return "the nested config names no model_type: speculators takes qwen3, vLLM llama; write it"


TRAPS: tuple[Callable[[Declaration], str | None], ...] = (
    _layer_ids, _unserved_map, _own_embedding, _stray_norms, _fusion_bias, _double_norm, _exported_rope, _residual,
    _deeper_layers, _biases, _layer_count, _short_range, _older_vllm, _window, _dynamic_rope, _logits, _inverted_feedback,
    _unflagged_feedback, _silent_class,
)  # fmt: skip
