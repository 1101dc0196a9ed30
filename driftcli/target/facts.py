"""A target's sizes, RoPE and range by its config alone, which a drafter is held against; and whether a config can be true at all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from driftcli.errors import FormatError
from driftcli.sources.files import Json, Source, read_config

ALIASES = {  # the names that older model families use
    "width": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "vocabulary": ("vocab_size",),
    "positions": ("max_position_embeddings", "n_positions", "max_seq_len"),
}
PACKED = 8  # times the largest dimension of a stored tensor that a config may declare: 4-bit weights are packed eight to a number
FEWEST = 1 << 16  # what a config may declare whatever is stored: counts of small models' other parts (chosen by us)
COUNTS = re.compile(r"^(?:num_|n_(?!positions|ctx)|hidden_|intermediate_|vocab_)|(?:_size|_dim|_layers?|_heads?|_experts?)$")
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks?|layer)\.(\d+)\.")
TEXT_PARTS = ("text_config", "llm_config", "language_config")


@dataclass(frozen=True)
class TargetFacts:
    """Sizes of a target, None where they are not known; `config` is its text model's settings as written."""

    name: str
    width: int | None = None
    layers: int | None = None
    vocabulary: int | None = None
    positions: int | None = None
    model_type: str = ""
    config: Mapping[str, Json] = field(default_factory=dict)

    @property
    def named(self) -> str | None:
        """The target's name, None for none."""
        return None if self is NO_TARGET else self.name


NO_TARGET = TargetFacts("no target")


def read_facts(source: Source) -> TargetFacts:
    """The facts that a target's `config.json` tells; raises FormatError for a size that is no positive whole number."""
    config = read_config(source)
    part = text_part(config)
    sizes = {name: _size(source, part, keys) for name, keys in ALIASES.items()}
    if sizes["layers"] is None and isinstance(pattern := part.get("hybrid_override_pattern"), str):
        sizes["layers"] = len(pattern) or None  # Nemotron-H names its layers by a letter each
    return TargetFacts(source.name, **sizes, model_type=str(part.get("model_type", "")), config=part)


def text_part(config: Mapping[str, Json]) -> Mapping[str, Json]:
    """The settings of the text model, which a model of more than text keeps apart."""
    return next((inner for key in TEXT_PARTS if isinstance(inner := config.get(key), dict)), config)


def _size(source: Source, config: Mapping[str, Json], keys: tuple[str, ...]) -> int | None:
    key = next((key for key in keys if config.get(key) is not None), None)
    if key is None:
        return None
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise FormatError(f"{source.name}/config.json: {key} is {value!r}, expected a positive whole number")
    return value


def check_declared(name: str, config: Mapping[str, object], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise FormatError where a config declares more than its weights can be: sizes far beyond any stored, or layers that are not stored.

    A model is laid out by its config before a weight is read, so a wrong number there would take all memory or never end.
    """
    largest = PACKED * max((size for shape in shapes.values() for size in shape), default=0)
    layers = {int(found[1]) for stored in shapes if (found := LAYER.search(stored))}
    for key, value in _numbers(config):
        if COUNTS.search(key) and value > max(largest, FEWEST):
            raise FormatError(f"{name}/config.json: {key} is {value}, far beyond the size of any stored tensor; correct it")
        if key in ALIASES["layers"] and layers and value > 2 * (max(layers) + 1):
            raise FormatError(
                f"{name}/config.json: {key} is {value}, the weights hold {max(layers) + 1} layers; correct it or fetch the model again"
            )


def _numbers(config: Mapping[str, object]) -> Iterator[tuple[str, int]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield key, value
