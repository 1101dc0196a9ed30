"""How each system computes a head's step from the same file: vLLM, SGLang, and the code that trained it.

A reading is a set of switches, each with its source. The declared reading, on which every measurement rests, is vLLM's (that of its
default runner, V2; V1 is another reading where it captures other streams); where vLLM cannot load the file it is SGLang's, else the
producer's. Where they differ the record says so, since the difference alone can halve acceptance. vLLM 0.33 and SGLang 0.5.23 are meant,
SpecForge 0.2, speculators 0.9, ModelOpt of August 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from driftcli.conditions import Feedback
from driftcli.domain import SYSTEMS, Sourced, System
from driftcli.errors import DriftError, FormatError
from driftcli.families.eagle.anatomy import Anatomy
from driftcli.families.eagle.capture_layers import captured, last_state, layer_ids, reads_last_state, unusable
from driftcli.families.eagle.formats import CONVERTED
from driftcli.families.eagle.served import Server, asked_for, built, refusal
from driftcli.families.layout import Format
from driftcli.families.record import Record, Said
from driftcli.families.rope import Rope, rope_as, shown
from driftcli.target.facts import TargetFacts

StreamNorm = Literal["none", "joint", "per stream", "joint, then per stream"]
Gain = Literal["input_layernorm", "hidden_norm"]
WindowStart = Literal["query", "anchor"]
Owner = Literal["own", "target's"]
SERVERS: Mapping[System, Server] = {"as_served:vllm": "vllm", "as_served:sglang": "sglang"}
ELSEWHERE = "; export it in another layout or serve it elsewhere"
HEALED_BY = "healed_by"  # key of a config that `driftcli heal` wrote
LONGEST_WINDOW = 2**31 - 1  # rows (chosen by us); no text has more, and row numbers are counted in 64 bits


@dataclass(frozen=True, slots=True)
class Reading:
    """One system's switches.

    capture: boundaries, as text where the target is not known. hidden_norms: how often the hidden stream is normed before attention.
    deeper_norm: the gain in front of the attention of layers past the first. windows: rows that each layer sees, None for all, counted back
    from the query's own row or, as speculators' training mask does, from the anchor's, with all of its chain seen besides.
    """

    capture: Said[tuple[int, ...] | str]
    pre_fc_norm: Said[StreamNorm]
    hidden_norms: Said[int]
    residual: Said[Feedback]
    deeper_norm: Said[Gain]
    logits_from: Said[Feedback]
    feedback: Said[Feedback]
    biases: Said[bool]
    fusion_bias: Said[bool]
    embedding: Said[Owner]
    windows: Said[tuple[int | None, ...]]
    window_from: Said[WindowStart]
    rope: Said[Rope]

    def fields(self) -> dict[str, Sourced]:
        """The switches as a record holds them."""
        found: dict[str, Sourced] = {}
        for field in fields(self):
            said = getattr(self, field.name)
            found[field.name] = Sourced(_plain(field.name, said.value), said.source)
        return found


def _plain(name: str, value: object) -> bool | int | str | tuple[int, ...]:
    if name == "rope":
        return shown(value)  # type: ignore[arg-type]
    if name == "windows":
        return ", ".join("all rows" if window is None else str(window) for window in value)  # type: ignore[attr-defined]
    return value  # type: ignore[return-value]


@dataclass(frozen=True)
class Head:
    """All that a reading is made from: the config, that of its layers, the layout, the anatomy and the target."""

    record: Record
    layers: Record
    format: Format
    anatomy: Anatomy
    stored: frozenset[str]
    target: TargetFacts

    @property
    def is_speculators(self) -> bool:
        """Whether vLLM reads it through its speculators configs."""
        return self.format.producer == "speculators"

    @property
    def healed(self) -> bool:
        """Whether `driftcli heal` wrote it, whose files say what was measured and trained."""
        return isinstance(self.record.config.get(HEALED_BY), str)

    def asked_for(self, server: Server) -> str | None:
        """The name under which a server looks for its class."""
        return asked_for(server, self.record, self.layers, self.anatomy.family, speculators=self.is_speculators)

    def built(self, server: Server) -> str | None:
        """The class that a server builds, None where it knows none."""
        name = built(server, self.asked_for(server))
        return None if name is None else name.rpartition(".")[2]


def read_as(system: System, head: Head) -> Reading | DriftError:
    """The switches under `system`, or why it cannot run the file. vLLM's two runners differ in the streams that they capture alone."""
    switches: System = "as_served:vllm" if system == "as_served:vllm-v1" else system
    if (refusal := _refusal(switches, head)) is not None:
        return refusal
    one_stream = head.anatomy.family == "eagle" or reads_last_state(head.record)
    runner: System = "as_served:vllm-v1" if head.anatomy.parallel and switches == "as_served:vllm" else system  # the one that runs P-EAGLE
    capture = last_state(head.record, head.target) if one_stream else captured(layer_ids(head.record), runner, head.target)
    if (wrong := unusable(capture, head.record.where, head.anatomy.streams, head.target)) is not None:
        return wrong
    rope, source = rope_as(switches, head.layers, head.format.producer, head.anatomy.heads.rotated, head.target)
    return Reading(
        capture=Said(capture.boundaries, capture.source),
        pre_fc_norm=_stream_norm(switches, head),
        hidden_norms=_hidden_norms(switches, head),
        residual=_residual(switches, head),
        deeper_norm=_deeper_norm(switches, head),
        logits_from=_logits_from(switches, head),
        feedback=_feedback(switches, head),
        biases=_biases(switches, head),
        fusion_bias=_fusion_bias(switches, head),
        embedding=_embedding(switches, head),
        windows=_windows(switches, head),
        window_from=_window_from(switches, head),
        rope=Said(rope, source),
    )


def readings(head: Head) -> dict[System, Reading | DriftError]:
    """Every system's reading."""
    return {system: read_as(system, head) for system in SYSTEMS}


def declared(found: Mapping[System, Reading | DriftError]) -> System:
    """The system whose reading stands for the file; raises vLLM's refusal when nobody can run it."""
    for system in SYSTEMS:
        if isinstance(found[system], Reading):
            return system
    first = found[SYSTEMS[0]]
    assert isinstance(first, DriftError)
    raise first


def _refusal(system: System, head: Head) -> DriftError | None:
    last_alone = head.anatomy.family == "eagle3" and "layers.0.hidden_norm.weight" not in head.anatomy.names
    reason = _unread_mask(system, head)
    if reason:
        reason = f"{reason}{ELSEWHERE}"
    elif system == "as_trained":
        reason = f"what trains attention over token and state without a norm of the state is not public{ELSEWHERE}" if last_alone else ""
    elif head.format.renames == CONVERTED:
        reason = "was converted for a class that vLLM had once and that neither server knows; serve the head that it was converted from"
    elif head.format.producer == "NeMo":
        reason = f"vLLM and SGLang know no LlamaEagle3DraftModel, nor its tensor names{ELSEWHERE}"
    elif system == "as_served:sglang" and head.is_speculators:
        reason = f"SGLang does not read the speculators format{ELSEWHERE}"
    elif not (reason := refusal(SERVERS[system], head.asked_for(SERVERS[system]), head.record, head.layers, head.anatomy)):
        reason = _unplaced_in_vllm(head) if system == "as_served:vllm" else _unbuilt_by_sglang(head)
    return FormatError(f"{head.record.where}: {reason}") if reason else None


def _unread_mask(system: System, head: Head) -> str:
    """Why a system does not run a file of P-EAGLE as such."""
    if not head.anatomy.parallel:
        return ""
    if system == "as_served:sglang":
        return "SGLang has no class that reads mask_hidden"
    if system == "as_trained":
        return "" if head.is_speculators else "what trained it is not public"
    if head.is_speculators and head.record.config.get("speculators_model_type") != "peagle":
        return "speculators_model_type is not peagle, without which vLLM leaves mask_hidden out and drafts token by token"
    return (
        "vLLM's config for P-EAGLE carries no fc_norm, so its class has no place for these tensors"
        if head.anatomy.has(r"^fc_norm\.")
        else ""
    )


def _unplaced_in_vllm(head: Head) -> str:
    has = head.anatomy.has
    if any(name.startswith("aux_norm_") for name in head.stored):
        return f"vLLM has no place for aux_norm_low, _mid and _high{ELSEWHERE}"
    if has(r"^fc_norm\.") and not head.record.is_on("fc_norm"):
        return f"vLLM has no place for fc_norm tensors while fc_norm is off in the config{ELSEWHERE}"
    if head.anatomy.heads.kind == "latent" and "input_norm.weight" in head.anatomy.names:
        return f"vLLM's latent-attention class has no place for input_norm{ELSEWHERE}"
    return ""


def _unbuilt_by_sglang(head: Head) -> str:
    latent = head.anatomy.heads
    if latent.kind == "latent" and (latent.ranks[0] is None or head.anatomy.layers > 1):
        return f"SGLang's latent attention needs a low-rank query and exactly one layer{ELSEWHERE}"
    return ""


def _stream_norm(system: System, head: Head) -> Said[StreamNorm]:
    joint, apart = "input_norm.weight" in head.anatomy.names, head.anatomy.has(r"^fc_norm\.")
    if system != "as_trained":
        joint = joint and asks_for_joint_norm(head.record)
        apart = apart and asks_for_stream_norms(system, head.record)
    value: StreamNorm = "joint, then per stream" if joint and apart else "joint" if joint else "per stream" if apart else "none"
    return Said(value, "tensor" if value != "none" or system == "as_trained" else head.record.source("fc_norm", "vLLM and SGLang"))


def asks_for_joint_norm(record: Record) -> bool:
    """Whether a config turns on one norm over all streams; inside `eagle_config` the key counts before the one at the top level."""
    return record.within("eagle_config").is_on("norm_before_fc", record.is_on("norm_before_fc"))


def asks_for_stream_norms(system: System, record: Record) -> bool:
    """Whether a config turns on a norm per stream under the keys that `system` knows."""
    named = record.is_on("fc_norm")
    return named or (system == "as_served:sglang" and record.is_on("use_aux_norm"))


def _hidden_norms(system: System, head: Head) -> Said[int]:
    twice = system == "as_trained" and head.format.producer == "ModelOpt" and "layers.0.hidden_norm.weight" in head.anatomy.names
    return Said(2, "assumed:ModelOpt since December 2025 applies input_layernorm to the hidden stream too") if twice else Said(1, "tensor")


def _residual(system: System, head: Head) -> Said[Feedback]:
    if head.anatomy.family == "eagle":
        return Said("raw", "tensor")
    if system == "as_served:sglang":
        return Said("raw", "default:SGLang, which does not read norm_before_residual")
    default = head.is_speculators and system == "as_served:vllm" and not head.anatomy.parallel
    owner = "vLLM's speculators configs" if default else "vLLM" if system == "as_served:vllm" else head.format.producer
    normed = head.record.is_on("norm_before_residual", default)
    return Said("normed" if normed else "raw", head.record.source("norm_before_residual", owner))


def _feedback(system: System, head: Head) -> Said[Feedback]:
    if head.anatomy.family == "eagle":
        return Said("raw", "tensor")
    if head.anatomy.parallel:
        return Said("raw", "default:P-EAGLE, which hands no state on")
    flag, producer = head.record.is_on("norm_output"), head.format.producer
    if system == "as_trained" and feeds_back_raw_whatever_it_says(head) and flag:
        return Said("raw", "assumed:SpecForge up to 0.2.0 feeds back the raw state whatever norm_output says")
    if system == "as_trained" and producer == "SpecDrift" and "norm_output" not in head.record.config:
        return Said("normed", "assumed:the SpecDrift fork feeds back the normed state and writes no flag")
    return Said("normed" if flag else "raw", head.record.source("norm_output", "vLLM"))


def feeds_back_raw_whatever_it_says(head: Head) -> bool:
    """SpecForge's class up to 0.2.0, told by its layout and its grouped attention: latent heads in that layout come from TorchSpec."""
    return head.format.producer == "SpecForge" and head.anatomy.heads.kind == "grouped" and not head.healed


def _logits_from(system: System, head: Head) -> Said[Feedback]:
    if head.anatomy.family == "eagle":
        return Said("raw", "tensor")
    if system == "as_trained" and feeds_back_raw_whatever_it_says(head) and head.record.config.get("norm_output") is False:
        return Said("raw", "assumed:SpecForge up to 0.2.0 leaves out the final norm where norm_output is false")
    return Said("normed", "tensor")


def _deeper_norm(system: System, head: Head) -> Said[Gain]:
    if head.anatomy.family == "eagle" or head.anatomy.layers == 1:
        return Said("input_layernorm", "tensor")
    if system == "as_served:vllm":
        return Said("input_layernorm", "default:vLLM")
    if system == "as_served:sglang":
        return Said("hidden_norm", "default:SGLang")
    stock = head.anatomy.has(r"^layers\.[1-9]\d*\.input_layernorm")
    return Said("input_layernorm" if stock and head.format.producer != "SpecDrift" else "hidden_norm", "tensor")


def _biases(system: System, head: Head) -> Said[bool]:
    stored = head.anatomy.has(r"self_attn\.[qkvo]_proj\.bias$")
    if not stored:
        return Said(False, "tensor")
    if head.anatomy.family == "eagle":
        return _llama_biases(system, head.layers)
    if system == "as_served:vllm":
        return Said(head.layers.is_on("attention_bias"), head.layers.source("attention_bias", "vLLM"))
    if system == "as_served:sglang" or head.format.producer in ("SpecForge", "SafeAILab"):
        return Said(False, f"default:{'SGLang' if system == 'as_served:sglang' else head.format.producer}, whose class has no biases")
    return Said(True, "tensor")


def _llama_biases(system: System, config: Record) -> Said[bool]:
    """Of a stock Llama layer: SafeAILab reads qkv_bias, vLLM that before the other two keys, SGLang the other two alone."""
    both = config.is_on("attention_bias") or config.is_on("bias")
    if system == "as_trained":
        return Said(True, "tensor")
    if system == "as_served:vllm" and "qkv_bias" in config.config:
        return Said(config.is_on("qkv_bias"), config.source("qkv_bias", "vLLM"))
    return Said(both, config.source("attention_bias", "vLLM" if system == "as_served:vllm" else "SGLang"))


def _fusion_bias(system: System, head: Head) -> Said[bool]:
    stored = "fc.bias" in head.anatomy.names
    if stored and system == "as_served:vllm":
        return Said(False, "default:vLLM, which builds fc without a bias")
    return Said(stored, "tensor")


def _embedding(system: System, head: Head) -> Said[Owner]:
    own = "embed_tokens.weight" in head.anatomy.names
    if not own:
        return Said("target's", "default:vLLM, SGLang and SafeAILab, where the tensor is absent")
    if system == "as_served:sglang" and head.anatomy.width == head.anatomy.target_width:
        return Said("target's", "default:SGLang, which puts the target's in their place")
    return Said("own", "tensor")


def _window_from(system: System, head: Head) -> Said[WindowStart]:
    slides = any(window is not None for window in _windows(system, head).value)
    anchored = slides and system == "as_trained" and not head.anatomy.parallel and not head.healed
    return Said("anchor", "default:speculators' training mask") if anchored else Said("query", "default:vLLM")


def _windows(system: System, head: Head) -> Said[tuple[int | None, ...]]:
    every: tuple[int | None, ...] = (None,) * head.anatomy.layers
    kinds, window = head.layers.get("layer_types"), head.layers.get("sliding_window")
    if system == "as_served:sglang":
        return Said(every, "default:SGLang, where a window is a server flag")
    if system == "as_trained" and not head.is_speculators and not head.healed:
        return Said(every, f"default:{head.format.producer}, whose class has no window")
    if not isinstance(kinds, list) or window is None or head.layers.get("use_sliding_window") is False:
        return Said(every, "default:vLLM")
    missing = len(kinds) < head.anatomy.layers
    if missing or isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= LONGEST_WINDOW:
        raise FormatError(
            f"{head.record.where}/config.json: sliding_window is {window!r} with layer_types {kinds!r}, "
            f"expected a number of rows and a type for each of {head.anatomy.layers} layers"
        )
    found = tuple(window if kind == "sliding_attention" else None for kind in kinds[: head.anatomy.layers])
    return Said(found, f"config:{head.layers.inside}sliding_window, layer_types")
