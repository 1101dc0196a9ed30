"""What a drafter's checkpoint must be held against: the target's sizes, RoPE and range, from its config alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from driftcli.errors import FormatError
from driftcli.loading.files import Json, Source, read_config

ALIASES = {  # the names that older model families use
    "width": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "vocabulary": ("vocab_size",),
    "positions": ("max_position_embeddings", "n_positions", "max_seq_len"),
}
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


NO_TARGET = TargetFacts("no target")


def read_facts(source: Source) -> TargetFacts:
    """The facts that a target's `config.json` tells; raises FormatError for a size that is no positive whole number."""
    config = read_config(source)
    part = next((inner for key in TEXT_PARTS if isinstance(inner := config.get(key), dict)), config)
    sizes = {name: _size(source, part, keys) for name, keys in ALIASES.items()}
    return TargetFacts(source.name, **sizes, model_type=str(part.get("model_type", "")), config=part)


def _size(source: Source, config: Mapping[str, Json], keys: tuple[str, ...]) -> int | None:
    key = next((key for key in keys if config.get(key) is not None), None)
    if key is None:
        return None
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise FormatError(f"{source.name}/config.json: {key} is {value!r}, expected a positive whole number")
    return value
