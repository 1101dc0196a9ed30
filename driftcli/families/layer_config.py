"""The config that describes a drafter's decoder layers, wherever its producer keeps it.

speculators nests it as a *difference to its class's defaults*, so absent keys mean that class's values. They stand here instead of being
asked of transformers, which takes five seconds to import; a test holds them equal to transformers' own.
"""

from __future__ import annotations

from collections.abc import Mapping

from driftcli.errors import FormatError
from driftcli.families.layout import Producer
from driftcli.families.record import Record
from driftcli.sources.files import Json

NEST = "transformer_layer_config"
SILENT_CLASS = "qwen3"  # what speculators takes where the nested config names no model_type
CLASS_DEFAULTS: Mapping[str, Mapping[str, Json]] = {
    "llama": {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6, "attention_bias": False, "hidden_act": "silu", "tie_word_embeddings": False,
    },
    "qwen3": {
        "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_attention_heads": 32, "num_key_value_heads": 32,
        "head_dim": 128, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "attention_bias": False, "hidden_act": "silu",
        "tie_word_embeddings": False, "use_sliding_window": False, "sliding_window": 4096,
    },
}  # fmt: skip
CLASS_NAMES = {"llama": "transformers LlamaConfig", "qwen3": "transformers Qwen3Config"}


def layer_config(record: Record, producer: Producer) -> Record:
    """Where the sizes, RoPE and windows of the layers are read; raises FormatError for a nested config of a class that is not known."""
    if record.config.get("model_type") == "eagle" and isinstance(record.config.get("model"), dict):  # as converted for vLLM
        return record.within("model")
    if producer != "speculators":
        return record
    kind = record.within(NEST).config.get("model_type", SILENT_CLASS)
    if not isinstance(kind, str) or kind not in CLASS_DEFAULTS:
        raise FormatError(
            f"{record.where}/config.json: {NEST}.model_type is {kind!r}, expected one of {', '.join(CLASS_DEFAULTS)}, "
            "the classes that speculators drafts with"
        )
    return record.within(NEST, (CLASS_NAMES[kind], CLASS_DEFAULTS[kind]))
