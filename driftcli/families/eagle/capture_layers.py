"""Which of the target's residual streams a head reads, as boundaries: boundary `b` is the stream after `b` decoder layers.

One list of layer ids means different streams to different readers. At the top level it holds boundaries for everybody who reads it there.
Inside `eagle_config` SpecForge, ModelOpt and SGLang mean layer outputs (output `o` is boundary `o + 1`), vLLM's V1 runner boundaries, and
its default runner, V2, does not look at that key at all but at `layer_ids` beside it; and a list that ends in the target's last boundary
can only hold boundaries. `target_layer_ids` (DeepSpec) are layer outputs, read by its own code and by vLLM's V2 runner alone. Boundary
`L + 1` stands for the stream after the target's final norm, which heads of one stream read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from driftcli.domain import System
from driftcli.errors import DriftError, FormatError, PairError
from driftcli.families.record import Record
from driftcli.target.facts import TargetFacts

KEY, NEST = "eagle_aux_hidden_state_layer_ids", "eagle_config"
INSIDE, SHORT, OUTPUTS = f"{NEST}.{KEY}", f"{NEST}.layer_ids", "target_layer_ids"
READ: dict[System, tuple[str, ...]] = {  # where each looks for ids, the first that is there counts
    "as_served:vllm": (KEY, OUTPUTS, SHORT),
    "as_served:vllm-v1": (KEY, INSIDE),
    "as_served:sglang": (INSIDE,),
    "as_trained": (KEY, OUTPUTS, INSIDE, SHORT),
}
READERS: dict[System, str] = {
    "as_served:vllm": "vLLM",
    "as_served:vllm-v1": "vLLM's V1 runner",
    "as_served:sglang": "SGLang",
    "as_trained": "whoever trained it",
}
MINIMAL_LAYERS = 7  # below this many target layers the default ids 2, L // 2, L - 3 are no longer three distinct ascending boundaries
DEFAULT_OF_ALL = "default:vLLM, SGLang and SafeAILab"
DEFAULTS = "2, L/2, L-3"  # shown where the target, hence L, is not known
LAST = "L+1, after the final norm"


@dataclass(frozen=True, slots=True)
class LayerIds:
    """Layer ids as a config holds them, and the key that they stand under."""

    ids: tuple[int, ...]
    key: str


@dataclass(frozen=True, slots=True)
class Capture:
    """The boundaries that one system captures, as text where the target is not known, and by which convention."""

    boundaries: tuple[int, ...] | str
    source: str


def layer_ids(record: Record) -> dict[str, LayerIds]:
    """The ids that a config names by their key; raises FormatError for what is no list of layer numbers."""
    found = {}
    for key in (KEY, OUTPUTS, INSIDE, SHORT):
        name = key.removeprefix(f"{NEST}.")
        place = record if name == key else record.within(NEST)
        value = place.config.get(name)
        if value is None or value == []:  # servers take an empty list for none
            continue
        ids = value if isinstance(value, list) else []
        numbers = tuple(number for number in ids if isinstance(number, int) and not isinstance(number, bool) and number >= 0)
        if not numbers or len(numbers) != len(ids):
            raise place.wrong(name, value, "a list of layer numbers")
        found[key] = LayerIds(numbers, key)
    return found


def usual_for(ids: tuple[int, ...]) -> int | None:
    """The number of target layers for which three ids are the usual ones, as outputs or as boundaries; None where they are none."""
    if len(ids) != 3:
        return None
    first, middle, last = ids
    outputs, boundaries = last + 4, last + 3
    if (first, middle) == (1, outputs // 2 - 1):
        return outputs
    return boundaries if (first, middle) == (2, boundaries // 2) else None


def reads_last_state(record: Record) -> bool:
    """Whether the config asks for the target's final hidden state in place of captured streams."""
    return not record.within(NEST).is_on("use_aux_hidden_state", True)


def last_state(record: Record, target: TargetFacts) -> Capture:
    """The stream after the target's final norm."""
    source = "config:eagle_config.use_aux_hidden_state" if reads_last_state(record) else "tensor"
    return Capture(LAST if target.layers is None else (target.layers + 1,), source)


def captured(named: Mapping[str, LayerIds], system: System, target: TargetFacts) -> Capture:
    """What `system` captures for a head of several streams."""
    ids = next((named[key] for key in READ[system] if key in named), None)
    if ids is None:
        unread = ", ".join(named)
        return _defaults(target.layers, f"default:{READERS[system]}, which does not read {unread}" if unread else DEFAULT_OF_ALL)
    if ids.key == OUTPUTS:
        return _read(ids, 1, "layer outputs")
    if system == "as_trained":
        return _trained(ids, target.layers)
    return _read(ids, *(_sglang_shift(ids, target) if system == "as_served:sglang" else (0, "boundaries")))


def _trained(ids: LayerIds, layers: int | None) -> Capture:
    """The convention that the writer most likely meant; the order of training is kept."""
    as_outputs = ids.key == INSIDE
    if layers is not None:
        written: dict[tuple[int, ...], bool] = {(1, layers // 2 - 1, layers - 4): True, (2, layers // 2, layers - 3): False}
        as_outputs = written.get(ids.ids, as_outputs and max(ids.ids) != layers)
    shift, meaning = (1, "layer outputs") if as_outputs else (0, "boundaries")
    return Capture(tuple(number + shift for number in ids.ids), f"assumed:config:{ids.key} written as {meaning}")


def _sglang_shift(ids: LayerIds, target: TargetFacts) -> tuple[int, str]:
    deepseek = target.model_type.startswith(("deepseek", "kimi")) and ids.ids[0] != 1
    last = target.model_type == "gpt_oss" and max(ids.ids) == target.layers
    return (0, "boundaries") if deepseek or last else (1, "layer outputs")


def _read(ids: LayerIds, shift: int, meaning: str) -> Capture:
    """Servers mark layers and walk them in order: ids are sorted and count once."""
    return Capture(tuple(sorted({number + shift for number in ids.ids})), f"config:{ids.key} read as {meaning}")


def _defaults(layers: int | None, source: str) -> Capture:
    return Capture(DEFAULTS if layers is None else (2, layers // 2, layers - 3), source)


def unusable(capture: Capture, where: str, streams: int, target: TargetFacts) -> DriftError | None:
    """Why a head of so many streams cannot read this capture from this target, None when it can."""
    found, layers = capture.boundaries, target.layers
    if isinstance(found, str):
        return None if streams == len(found.split(", ")) or found == LAST else _disagreement(where, streams, found)
    if layers is not None and capture.source.startswith("default") and layers < MINIMAL_LAYERS:
        return PairError(
            f"{target.name}: {layers} layers, but the default capture layers 2, L/2, L-3 need at least {MINIMAL_LAYERS}; "
            f"use a deeper target or a head that names its layers in {KEY}"
        )
    if layers is not None and max(found) > layers and found != (layers + 1,):
        return PairError(
            f"{where}: reads the stream after layer {max(found)}, but {target.name} has {layers} layers; name the target it was trained for"
        )
    return None if len(found) == streams else _disagreement(where, streams, str(list(found)))


def _disagreement(where: str, streams: int, found: str) -> FormatError:
    return FormatError(
        f"{where}: fc.weight reads {streams} streams of the target, but the capture layers are {found}; correct {KEY} or write it"
    )
