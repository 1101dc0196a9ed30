"""How each system computes a block from the same file: vLLM, SGLang, and the code that trained it.

A reading is a set of switches, each with its source. The declared one is vLLM's; where vLLM cannot run the file it is that of training.
vLLM 0.33 and SGLang 0.5.23 are meant, z-lab's `dflash` 0.1 and speculators 0.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from driftcli.conditions import Rotation
from driftcli.domain import Sourced, System
from driftcli.errors import DriftError, FormatError, PairError
from driftcli.families.block.anatomy import Anatomy
from driftcli.families.layout import Format
from driftcli.families.record import Record, Said
from driftcli.families.rope import Rope, rope_settings, shown
from driftcli.sources.files import Json
from driftcli.target.facts import TargetFacts

VLLM: Final = "as_served:vllm"
SGLANG: Final = "as_served:sglang"
TRAINED: Final = "as_trained"
RUN_BY: tuple[System, ...] = (VLLM, SGLANG, TRAINED)
SLIDING, FULL = "sliding_attention", "full_attention"
OWN_ROW, ANCHOR = "query", "anchor"
FILL_IN, ANCHOR_FIRST = "their own place", "the place behind them"  # what a row guesses
OWN, SHARED = "own where the file has it", "target's"
DRAFTS, BLOCK = "as drafted", "as in training"
ZLAB = "z-lab DFlashDraftModel"
PLAIN = (1.0, 1.0, 0.0)  # scales of embeddings and scores, and no bound on scores
SCALES = ("input_embedding_scale", "output_multiplier", "final_logit_softcapping")


@dataclass(frozen=True, slots=True)
class Reading:
    """One system's switches.

    capture: boundaries of the target's streams. causal, windows: of each layer, whether a row of the block sees none behind it, and how
    many rows it sees, None for all. window_from: counted back from a query's own row, or from the anchor with all of the block seen
    besides. rows: how many a block has, as the draft tokens need or as it had in training. rotation: which numbers of a head turn
    together. scales: of embeddings, of scores, and the bound on scores, 0 for none. slots: what a row guesses. rows_of: whose embeddings
    and output rows.
    """

    capture: Said[tuple[int, ...]]
    causal: Said[tuple[bool, ...]]
    windows: Said[tuple[int | None, ...]]
    window_from: Said[str]
    rows: Said[str]
    rotation: Said[Rotation]
    scales: Said[tuple[float, float, float]]
    slots: Said[str]
    rows_of: Said[str]
    rope: Said[Rope]

    def fields(self) -> dict[str, Sourced]:
        """The switches as a record holds them."""
        found = {}
        for field in fields(self):
            said = getattr(self, field.name)
            found[field.name] = Sourced(_plain(field.name, said.value), said.source)
        return found


def _plain(name: str, value: object) -> str | tuple[int, ...]:
    match name:
        case "rope":
            return shown(value)  # type: ignore[arg-type]
        case "windows":
            return ", ".join("all rows" if window is None else str(window) for window in value)  # type: ignore[attr-defined]
        case "causal":
            words = ["causal" if one else "both ways" for one in value]  # type: ignore[attr-defined]
            return words[0] if len(set(words)) == 1 else ", ".join(words)
        case "scales":
            assert isinstance(value, tuple)
            embedding, scores, bound = value
            return f"embeddings x {embedding:g}, scores x {scores:g}{f', bounded by {bound:g}' if bound else ''}"
    return value  # type: ignore[return-value]


@dataclass(frozen=True)
class Head:
    """All that a reading is made from: the config, its `dflash_config`, that of its layers, the layout, the sizes and the target."""

    record: Record
    own: Record
    layers: Record
    format: Format
    anatomy: Anatomy
    target: TargetFacts

    @property
    def is_dspark(self) -> bool:
        """Whether its blocks are DSpark's."""
        return self.format.name.startswith("DSpark")

    @property
    def is_dflash2(self) -> bool:
        """Whether its blocks are DFlash2's."""
        return self.anatomy.correction == "selector"

    @property
    def owns_rows(self) -> bool:
        """Whether it has embeddings or output rows of its own."""
        return any(f"{name}.weight" in self.anatomy.names for name in ("embed_tokens", "lm_head"))

    @property
    def is_speculators(self) -> bool:
        """Whether its fields are named as speculators names them."""
        return self.format.producer == "speculators"

    def value(self, key: str) -> tuple[Json, str]:
        """A setting, of `dflash_config` before the file's own, and where it stands; None where neither has it."""
        for place in (self.own, self.record):
            if place.config.get(key) is not None:
                return place.config[key], f"config:{place.inside}{key}"
        return None, ""


def readings(head: Head) -> dict[System, Reading | DriftError]:
    """Every system's switches, or why it cannot run the file."""
    return {system: _read(system, head) for system in RUN_BY}


def declared(found: Mapping[System, Reading | DriftError]) -> System:
    """Whose reading stands for the file: the first system's that can run it, in the order vLLM, training, SGLang."""
    order: tuple[System, ...] = (VLLM, TRAINED, SGLANG)
    for system in order:
        if isinstance(found[system], Reading):
            return system
    refusal = found[TRAINED]
    assert isinstance(refusal, DriftError)
    raise refusal


def _read(system: System, head: Head) -> Reading | DriftError:
    where = head.record.where
    if system == SGLANG and head.is_speculators:
        return FormatError(f"{where}: its config is in speculators' words, of which SGLang reads none; convert it to z-lab's")
    if refusal := _unserved(system, head):
        return refusal
    capture = _capture(system, head)
    if wrong := _unusable(capture, head):
        return wrong
    windows = _windows(system, head)
    if isinstance(windows, DriftError):
        return windows
    settings, given = rope_settings(head.layers.config, where), [key for key in ("rope_parameters", "rope_theta") if head.layers.get(key)]
    return Reading(
        capture=capture,
        causal=_causal(system, head),
        windows=windows,
        window_from=Said(ANCHOR if any(windows.value) and head.is_speculators and system == TRAINED else OWN_ROW, f"default:{system}"),
        rows=Said(DRAFTS if system == VLLM else BLOCK, f"default:{system}"),
        rotation=_rotation(system, head),
        scales=_scales(system, head),
        slots=_slots(system, head),
        rows_of=Said(SHARED if system == SGLANG or not head.owns_rows else OWN, f"default:{system}"),
        rope=Said(settings, f"config:{', '.join(head.layers.inside + key for key in given)}" if given else "default:Qwen3Config"),
    )


def _unserved(system: System, head: Head) -> DriftError | None:
    """Why a system has no class for such a file, None where it has."""
    where, correction = head.record.where, head.anatomy.correction
    if not head.is_dspark and (head.own.get("sample_from_anchor") is True or head.record.get("sample_from_anchor") is True):
        return FormatError(f"{where}/config.json: sample_from_anchor is true, expected false: a DFlash block's first row guesses nothing")
    if system == VLLM and correction in ("gated", "rnn"):
        return FormatError(f"{where}: its markov_head is {correction}, and vLLM's class has a place for the vanilla form alone")
    if system == VLLM and head.is_dflash2 and not head.is_speculators and head.own.get("selector_top_k") is None:
        return FormatError(f"{where}/config.json: vLLM reads selector_top_k inside dflash_config alone; write it there")
    return _unserved_by_sglang(head) if system == SGLANG else None


def _unserved_by_sglang(head: Head) -> DriftError | None:
    where = head.record.where
    if head.is_dflash2:
        return FormatError(f"{where}: SGLang's class for DFlash leaves its convolutions and candidate selector out without a word")
    if head.anatomy.sandwiched:
        return FormatError(f"{where}: its layers are Gemma 4's, for which SGLang has no DSpark class; vLLM's method dspark runs it")
    if head.is_dspark and head.anatomy.correction == "none":
        return FormatError(f"{where}: has no markov_head, which SGLang's DSpark class asks for; vLLM's method dspark runs it")
    return None


def _slots(system: System, head: Head) -> Said[str]:
    """What a row guesses: its own place, or, where DSpark says nothing else, the one behind, the anchor's row first."""
    if not head.is_dspark:
        return Said(FILL_IN, f"default:{system}")
    first = head.record.is_on("sample_from_anchor", default=not (head.is_speculators and system == VLLM))
    return Said(ANCHOR_FIRST if first else FILL_IN, head.record.source("sample_from_anchor", system))


def _capture(system: System, head: Head) -> Said[tuple[int, ...]]:
    """Boundaries: a layer's number in z-lab's words names what it puts out, in speculators' words what it takes in."""
    for key, shift in (("eagle_aux_hidden_state_layer_ids", 0), ("aux_hidden_state_layer_ids", 0), ("target_layer_ids", 1)):
        value, source = head.value(key)
        if value is not None:
            ids = value if isinstance(value, list) else []
            numbers = [number + shift for number in ids if isinstance(number, int) and not isinstance(number, bool) and number >= -shift]
            if not numbers or len(numbers) != len(ids):
                raise head.record.wrong(key, value, "a list of layer numbers")
            said = "layers' outputs" if shift else "boundaries"
            return Said(_ordered(system, head, numbers), f"{source} read as {said}")
    total, count = head.record.get("num_target_layers") or head.target.layers, head.anatomy.layers
    if head.is_speculators or not isinstance(total, int):
        named = "aux_hidden_state_layer_ids" if head.is_speculators else "target_layer_ids"
        raise FormatError(f"{head.record.where}/config.json: {named} is missing, and no class has a safe default; add it as in training")
    spread = [total // 2] if count == 1 else [round(1 + place * (total - 4) / (count - 1)) for place in range(count)]
    return Said(_ordered(system, head, [layer + 1 for layer in spread]), f"default:{ZLAB}, evenly spread")


def _ordered(system: System, head: Head, boundaries: list[int]) -> tuple[int, ...]:
    """Servers walk the layers in order; z-lab's class takes the last layer's output behind the final norm."""
    last = head.target.layers
    if last is not None and max(boundaries) > last:
        raise PairError(
            f"{head.record.where}: reads the stream behind layer {max(boundaries)}, but {head.target.name} has {last} layers; name the "
            "target it is for"
        )
    if system == TRAINED:
        behind_norm = not head.is_speculators and last is not None
        return tuple(last + 1 if behind_norm and one == last else one for one in boundaries)
    return tuple(sorted(set(boundaries)))


def _unusable(capture: Said[tuple[int, ...]], head: Head) -> DriftError | None:
    if len(capture.value) == head.anatomy.streams:
        return None
    return FormatError(
        f"{head.record.where}: fc.weight reads {head.anatomy.streams} streams of the target, but the layers are {list(capture.value)}; "
        "correct them"
    )


def _layer_types(head: Head) -> list[str]:
    value, count = head.layers.get("layer_types"), head.anatomy.layers
    if value is None:
        return [FULL] * count
    kinds = [one for one in value if one in (SLIDING, FULL)] if isinstance(value, list) else []
    if len(kinds) < count or not isinstance(value, list) or len(kinds) != len(value):
        raise head.layers.wrong("layer_types", value, f"{count} times {FULL} or {SLIDING}")
    return [str(one) for one in kinds[:count]]


def _causal(system: System, head: Head) -> Said[tuple[bool, ...]]:
    sliding = [kind == SLIDING for kind in _layer_types(head)]
    if head.format.producer == "DeepSpec" and system == TRAINED:
        return Said((False,) * len(sliding), "default:DeepSpec, whose rows always see one another")
    told = head.layers.get("is_causal") if head.layers.get("is_causal") is not None else head.record.get("is_causal")
    if told is not None and system != SGLANG:
        return Said((_flag(head, "is_causal", told),) * len(sliding), "config:is_causal")
    if head.is_speculators and not (head.is_dspark and system == VLLM):
        free = head.record.is_on("sliding_window_non_causal", default=system == VLLM or head.is_dflash2)
        source = head.record.source("sliding_window_non_causal", system)
        if system == VLLM:
            return Said((not free,) * len(sliding), f"{source}, which vLLM takes for every layer")
        return Said(tuple(one and not free for one in sliding), source)
    override = head.own.get("causal")
    if override is not None and system == VLLM:
        return Said((_flag(head, "causal", override),) * len(sliding), "config:dflash_config.causal")
    return Said(tuple(sliding), f"default:{system}, sliding layers alone")


def _flag(head: Head, key: str, value: Json) -> bool:
    if not isinstance(value, bool):
        raise head.record.wrong(key, value, "true or false")
    return value


def _windows(system: System, head: Head) -> Said[tuple[int | None, ...]] | DriftError:
    kinds, every = _layer_types(head), head.own.is_on("use_swa") and system == VLLM
    sliding = [True] * len(kinds) if every and SLIDING not in kinds else [kind == SLIDING for kind in kinds]
    if not any(sliding) or (head.format.producer == "DeepSpec" and system == TRAINED):  # whose evaluation masks nothing
        return Said((None,) * len(kinds), "config:layer_types" if head.layers.get("layer_types") else f"default:{system}")
    own, source = head.own.get("swa_window_size"), "config:dflash_config.swa_window_size"
    if own is None or system != VLLM:
        own, source = head.layers.get("sliding_window"), f"config:{head.layers.inside}sliding_window"
        if not head.layers.is_on("use_sliding_window"):  # without which transformers' Qwen3Config forgets the window
            own, source = None, "default:transformers Qwen3Config, without use_sliding_window"
    if own is None and system != TRAINED:
        return FormatError(f"{head.record.where}/config.json: layers slide, and {source} leaves no window; set use_sliding_window")
    if own is not None and (isinstance(own, bool) or not isinstance(own, int) or own < 1):
        raise head.layers.wrong("sliding_window", own, "a positive whole number")
    return Said(tuple(own if one else None for one in sliding), source)


def _rotation(system: System, head: Head) -> Said[Rotation]:
    if system == TRAINED or head.record.is_on("is_neox_style", default=True):
        return Said("halves", head.record.source("is_neox_style", system) if system != TRAINED else f"default:{system}")
    return Said("pairs", "config:is_neox_style")


def _scales(system: System, head: Head) -> Said[tuple[float, float, float]]:
    """vLLM's DFlash class reads none, that of DFlash2 those inside `dflash_config`; its target's own bound on scores is the target's. Gemma
    4 scales its embeddings by the root of the width, and bounds scores before a bias by the token before.
    """
    if head.anatomy.sandwiched:
        key = SCALES[2]
        bound = head.layers.number("softcap", key, 0.0, "") if head.layers.get(key) is not None else 0.0
        return Said((head.anatomy.width**0.5, 1.0, bound), f"default:Gemma 4, the root of the width{f', config:{key}' if bound else ''}")
    if head.is_speculators or (system == VLLM and not head.is_dflash2):
        return Said(PLAIN, f"default:{system}")
    found, sources = list(PLAIN), []
    for place, key in enumerate(SCALES):
        value, source = (head.own.get(key), f"config:{head.own.inside}{key}") if system == VLLM else head.value(key)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
                raise head.record.wrong(key, value, "a positive number")
            found[place] = float(value)
            sources.append(source)
    return Said((found[0], found[1], found[2]), ", ".join(sources) or f"default:{system}")
