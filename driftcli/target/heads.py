"""Sizes of a model's attention heads by its config, whose layers may differ in them, as Gemma 4's do."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PretrainedConfig


@dataclass(frozen=True, slots=True)
class Heads:
    """Query and key heads of a layer, and the numbers of one."""

    queries: int
    keys: int
    size: int


def heads_of(config: PretrainedConfig) -> tuple[Heads, ...]:
    """The heads of every layer in order."""
    count = int(config.num_hidden_layers)
    if getattr(config, "is_heterogeneous", False):
        return tuple(_of_layer(config.per_layer_config[number]) for number in range(count))
    return (_of_layer(config),) * count


def _of_layer(config: PretrainedConfig) -> Heads:
    queries = int(getattr(config, "num_attention_heads", None) or 1)
    keys = int(getattr(config, "num_key_value_heads", None) or queries)
    return Heads(queries, keys, int(getattr(config, "head_dim", None) or config.hidden_size // queries))
