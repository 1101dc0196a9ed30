"""A head's RoPE settings as each system computes them, from either spelling of the config.

What is left out takes the class's default (base 10000), never the target's value. Settings are plain mappings in transformers' spelling;
`driftcli.families.rotary` turns them into tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy

from driftcli.domain import System
from driftcli.errors import FormatError
from driftcli.families.layout import Producer
from driftcli.families.record import Record
from driftcli.sources.files import Json
from driftcli.target.facts import TargetFacts

SPELLINGS = ("rope_parameters", "rope_theta", "rope_scaling")
DEFAULT_THETA = 10000.0  # of LlamaConfig, Qwen3Config, DeepseekV3Config and SafeAILab's EConfig alike
OF_IMAGES = ("mrope_section", "mrope_interleaved")
LARGEST = 1e12  # of a factor, a base or a range that anybody can mean (chosen by us)
STRETCHED = ("linear", "dynamic")

Rope = Mapping[str, Json]


def rope_settings(config: Mapping[str, Json], where: str) -> dict[str, Json]:
    """`rope_type`, `rope_theta` and what else the type needs; raises FormatError for a spelling that is no object or no number."""
    scaling, parameters = config.get("rope_scaling"), config.get("rope_parameters")
    for key, value in (("rope_scaling", scaling), ("rope_parameters", parameters)):
        if value is not None and not isinstance(value, dict):
            raise FormatError(f"{where}/config.json: its RoPE settings cannot be used ({key} is {value!r}), expected an object")
    found: dict[str, Json] = {**(scaling if isinstance(scaling, dict) else {}), **(parameters if isinstance(parameters, dict) else {})}
    kind = found.pop("type", None)
    found.setdefault("rope_type", kind if kind is not None else "default")
    theta = config.get("rope_theta")
    found.setdefault("rope_theta", DEFAULT_THETA if theta is None else theta)
    return deepcopy({key: value for key, value in _of_text(found).items() if key not in OF_IMAGES})


def _of_text(found: dict[str, Json]) -> dict[str, Json]:
    """The same for a text, whose three kinds of positions are one, and for the layers that see all of it."""
    if isinstance(inner := found.get("full_attention"), dict):
        return {"rope_type": "default", "rope_theta": found["rope_theta"], **inner}
    return {**found, "rope_type": "default"} if found["rope_type"] == "mrope" else found


def rope_as(system: System, record: Record, producer: Producer, head_dim: int, target: TargetFacts) -> tuple[dict[str, Json], str]:
    """The settings under which `system` turns a head of `head_dim`, and their source."""
    config = {key: record.get(key) for key in SPELLINGS}
    settings = rope_settings(config, record.where)
    given = [key for key in SPELLINGS if config[key] is not None]
    source = f"config:{', '.join(record.inside + key for key in given)}" if given else "default:transformers LlamaConfig, as vLLM loads it"
    kind = settings["rope_type"]
    if kind == "dynamic" and system != "as_trained":
        return _one_base(system, settings, head_dim, record.where), source
    if system == "as_trained" and producer == "SafeAILab" and kind in STRETCHED:
        return {**settings, "rope_theta": DEFAULT_THETA}, "default:SafeAILab, whose scaled RoPE does not read rope_theta"
    if system == "as_trained" and producer == "ModelOpt" and kind == "yarn" and not _is_targets(settings, target):
        plain: dict[str, Json] = {"rope_type": "default", "rope_theta": settings["rope_theta"]}
        return plain, "assumed:ModelOpt trains with the default type and puts yarn in at export"
    return settings, source


def _is_targets(settings: Rope, target: TargetFacts) -> bool:
    """Whether a target turns its own heads so, which a head may well have been trained with."""
    return bool(target.config) and rope_settings(target.config, target.name) == settings


def _one_base(system: System, settings: dict[str, Json], head_dim: int, where: str) -> dict[str, Json]:
    """Servers compute a dynamic type's base once, whatever the length: SGLang for the stretched range, vLLM for the range as declared,
    which leaves it as it is (`max_trained_positions` in its settings would change that).
    """
    theta, factor = settings["rope_theta"], settings.get("factor")
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (theta, factor))
    if not numbers or not 1 <= factor <= 1e6 or not 0 < theta <= 1e12 or head_dim < 4:  # type: ignore[operator]
        raise FormatError(
            f"{where}/config.json: its RoPE settings cannot be used (rope_theta {theta!r}, factor {factor!r}), expected positive numbers"
        )
    stretch = float(factor) ** 2 - (float(factor) - 1) if system == "as_served:sglang" else 1.0  # type: ignore[arg-type]
    return {"rope_type": "default", "rope_theta": float(theta) * stretch ** (head_dim / (head_dim - 2))}  # type: ignore[arg-type]


def number(value: Json) -> float | None:
    """A setting as a number that can be computed with, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        return None
    return float(value)


def shown(rope: Rope) -> str:
    """Settings as one line of text."""
    return ", ".join(f"{key} {value}" for key, value in sorted(rope.items()))


def latent_scale(rope: Mapping[str, object], size: int, where: str) -> float:
    """What scores of latent attention are multiplied with: a yarn type with `mscale_all_dim` sharpens them, as in DeepSeek-V3."""
    factor, sharpness = rope.get("factor"), rope.get("mscale_all_dim")
    if rope.get("rope_type") == "default" or not sharpness:
        return float(size**-0.5)
    numbers = [value for value in (factor, sharpness) if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) < 2 or not 1 <= numbers[0] <= 1e6 or not 0 < numbers[1] <= 100:
        raise FormatError(f"{where}/config.json: mscale_all_dim {sharpness!r} with factor {factor!r}, expected positive numbers")
    sharpened = 1.0 + 0.1 * float(numbers[1]) * math.log(numbers[0])
    return float(size**-0.5 * sharpened**2)
