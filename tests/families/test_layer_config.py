from __future__ import annotations

import pytest
from transformers import LlamaConfig, Qwen3Config

from driftcli.errors import FormatError
from driftcli.families.layer_config import CLASS_DEFAULTS, CLASS_NAMES, NEST, SILENT_CLASS, layer_config
from driftcli.families.record import Record
from driftcli.sources.files import Json
from tests.edits import refused

CLASSES = {"llama": LlamaConfig, "qwen3": Qwen3Config}


@pytest.mark.parametrize("kind", sorted(CLASS_DEFAULTS))
def test_defaults_are_those_of_transformers_own_class(kind: str) -> None:
    theirs = CLASSES[kind]().to_dict()
    assert CLASSES[kind].model_type == kind
    # a Qwen3Config switches its window off by setting it to none; what its constructor takes is 4096
    switched_off = {"sliding_window"} if not theirs.get("use_sliding_window", True) else set()
    assert {key: theirs[key] for key in CLASS_DEFAULTS[kind].keys() - switched_off} == {
        key: value for key, value in CLASS_DEFAULTS[kind].items() if key not in switched_off
    }


def test_the_window_of_a_qwen3_that_slides_is_its_classs() -> None:
    assert Qwen3Config(use_sliding_window=True).sliding_window == CLASS_DEFAULTS["qwen3"]["sliding_window"]


def test_keys_that_a_class_fills_for_itself_are_filled_alike() -> None:
    assert LlamaConfig(num_attention_heads=8).num_key_value_heads == 8  # so that a missing count of key heads may mean that of heads
    assert "num_key_value_heads" not in CLASS_DEFAULTS["llama"]
    assert "head_dim" not in CLASS_DEFAULTS["llama"]


def test_every_class_has_a_name_and_the_silent_one_is_among_them() -> None:
    assert CLASS_NAMES.keys() == CLASS_DEFAULTS.keys() == CLASSES.keys()
    assert SILENT_CLASS in CLASS_DEFAULTS


def test_only_speculators_nests_its_layers() -> None:
    record = Record("head", {"hidden_size": 4, NEST: {"model_type": "llama", "hidden_size": 8}})
    assert layer_config(record, "SpecForge") is record
    nested = layer_config(record, "speculators")
    assert (nested.get("hidden_size"), nested.get("vocab_size"), nested.inside) == (8, 32000, f"{NEST}.")


@pytest.mark.parametrize("kind", ["gpt2", 3, None, ["llama"], {}])
def test_a_nested_class_that_is_not_known_is_refused(kind: Json) -> None:
    record = Record("head", {NEST: {"model_type": kind}})
    refused(FormatError, lambda: layer_config(record, "speculators"), "head/config.json", f"model_type is {kind!r}", "llama, qwen3")
