from __future__ import annotations

import copy
import logging
import math

import pytest
import torch
from torch import Tensor

from driftcli.errors import FormatError
from driftcli.families.record import Record
from driftcli.families.rope import rope_as, shown
from driftcli.families.rope_config import rope_config
from driftcli.families.rotary import rope_tables
from driftcli.sources.files import Json
from driftcli.target.facts import NO_TARGET
from tests.edits import refused

LLAMA3: dict[str, Json] = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
YARN: dict[str, Json] = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 64}


def tables(config: dict[str, Json], rows: int = 40) -> tuple[Tensor, Tensor]:
    record = Record("head", config)
    positions = record.integer("max_position_embeddings", "max_position_embeddings", 2048, "LlamaConfig")
    settings, _ = rope_as("as_trained", record, "SpecForge", 12, NO_TARGET)
    found = rope_tables(rope_config(settings, 12, positions, config.get("partial_rotary_factor"), "head"), rows, torch.device("cpu"))
    return found.cos, found.sin


@pytest.mark.parametrize("scaling", [None, LLAMA3, YARN, {"rope_type": "linear", "factor": 2.0}, {"rope_type": "dynamic", "factor": 2.0}])
def test_both_spellings_give_the_same_tables(scaling: dict[str, Json] | None) -> None:
    parameters: dict[str, Json] = {"rope_type": "default", **(scaling or {}), "rope_theta": 5000.0}
    old = tables({"rope_theta": 5000.0, "rope_scaling": scaling, "max_position_embeddings": 256})
    new = tables({"rope_parameters": parameters, "max_position_embeddings": 256})
    assert torch.equal(old[0], new[0])
    assert torch.equal(old[1], new[1])
    plain = tables({"rope_theta": 5000.0})
    differs = scaling is not None and scaling["rope_type"] != "dynamic"  # dynamic scales only beyond the declared range
    assert torch.equal(old[0], plain[0]) is not differs


def test_the_table_is_the_textbook_rotation() -> None:
    cos, sin = tables({"rope_theta": 5000.0})
    for row, pair in ((0, 0), (1, 0), (7, 2), (39, 5)):
        angle = row * 5000.0 ** (-2 * pair / 12)
        assert cos[row, pair].item() == pytest.approx(math.cos(angle), abs=1e-5)
        assert sin[row, pair + 6].item() == pytest.approx(math.sin(angle), abs=1e-5)


def test_a_dynamic_type_changes_its_frequencies_beyond_the_declared_range_and_not_before() -> None:
    config: dict[str, Json] = {"rope_theta": 5000.0, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 32}
    assert torch.equal(tables(config, rows=32)[0], tables({"rope_theta": 5000.0}, rows=32)[0])
    assert not torch.equal(tables(config, rows=33)[0], tables({"rope_theta": 5000.0}, rows=33)[0])


def test_the_older_word_type_is_understood() -> None:
    old: dict[str, Json] = {"type": "linear", "factor": 2.0}
    assert torch.equal(
        tables({"rope_theta": 5000.0, "rope_scaling": old})[0],
        tables({"rope_scaling": {**old, "rope_type": "linear"}, "rope_theta": 5000.0})[0],
    )


def test_a_missing_theta_is_the_classes_default_and_said_so() -> None:
    settings, source = rope_as("as_served:vllm", Record("head", {}), "SafeAILab", 12, NO_TARGET)
    assert source == "default:transformers LlamaConfig, as vLLM loads it"
    assert settings == {"rope_type": "default", "rope_theta": 10000.0}
    assert torch.equal(tables({})[0], tables({"rope_theta": 10000.0})[0])


@pytest.mark.parametrize(
    ("config", "source"),
    [
        ({"rope_theta": 5.0}, "config:rope_theta"),
        ({"rope_theta": 5.0, "rope_scaling": LLAMA3}, "config:rope_theta, rope_scaling"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}}, "config:rope_parameters"),
    ],
)
def test_the_record_says_which_keys_were_read_and_the_config_stays_as_it_was(config: dict[str, Json], source: str) -> None:
    record, before = Record("head", config), copy.deepcopy(config)
    settings, said = rope_as("as_served:vllm", record, "SafeAILab", 12, NO_TARGET)
    assert said == source
    assert "rope_theta 5.0" in shown(settings)
    rope_config(settings, 12, 2048, None, "head")
    assert record.config == before


UNUSABLE: list[dict[str, Json]] = [
    {"rope_theta": "5000"},
    {"rope_theta": 0},
    {"rope_theta": -5000.0},
    {"rope_theta": float("nan")},
    {"rope_theta": True},
    {"rope_theta": [5000.0]},
    {"rope_theta": 10**400},
    {"rope_scaling": "linear"},
    {"rope_scaling": ["linear", 2]},
    {"rope_scaling": {"rope_type": "nope", "factor": 2.0}},
    {"rope_scaling": {"rope_type": ["linear"], "factor": 2.0}},
    {"rope_scaling": {"rope_type": "linear"}},
    {"rope_scaling": {"rope_type": "linear", "factor": 0}},
    {"rope_scaling": {"rope_type": "linear", "factor": "2"}},
    {"rope_scaling": {"rope_type": "dynamic", "factor": None}},
    {"rope_scaling": {**YARN, "original_max_position_embeddings": 0}},
    {"rope_scaling": {**YARN, "factor": -1.0}},
    {"rope_scaling": {**LLAMA3, "factor": 0}},
    {"rope_scaling": {"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0], "long_factor": [1.0, 2.0]}},
    {"rope_parameters": 3},
    {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": {}}}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 0.5}},
    {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0, "partial_rotary_factor": 0.5}},
    {"partial_rotary_factor": 0.5},
    {"partial_rotary_factor": "half"},
    {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 10**30},
]


@pytest.mark.parametrize("config", UNUSABLE)
def test_settings_without_a_finite_table_over_whole_heads_are_refused(config: dict[str, Json]) -> None:
    refused(FormatError, lambda: tables(config), "head/config.json", "RoPE")


@pytest.mark.parametrize("value", ["2048", 0, -1, True, 2.5, [2048]])
def test_a_range_that_is_no_positive_whole_number_is_refused(value: Json) -> None:
    refused(
        FormatError, lambda: tables({"max_position_embeddings": value}), "head/config.json", "max_position_embeddings", "positive whole"
    )


@pytest.mark.parametrize(
    "scaling",
    [
        {**YARN, "attention_factor": 1e30},
        {**YARN, "attention_factor": 101.0},
        {**YARN, "mscale": 1e30, "mscale_all_dim": 0.5},
        {**YARN, "attention_factor": -1e30},
    ],
)
def test_a_scaling_of_attention_that_no_score_can_hold_is_refused(scaling: dict[str, Json]) -> None:
    refused(FormatError, lambda: tables({"rope_scaling": scaling}), "head/config.json", "gives no finite rotation")


@pytest.mark.parametrize(
    "scaling", [{"rope_type": "a\nb\x1b[2J"}, {"rope_type": "linear", "factor": "x\x1b[2J"}, {**YARN, "attention_factor": "2"}]
)
def test_text_from_a_config_reaches_no_warning_of_transformers(scaling: dict[str, Json], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[logging.LogRecord] = []
    monkeypatch.setattr(logging.getLogger("transformers"), "handlers", [Kept(said)])
    refused(FormatError, lambda: tables({"rope_scaling": scaling}), "head/config.json", "its RoPE settings cannot be used")
    assert said == []


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, said: list[logging.LogRecord]) -> None:
        super().__init__()
        self.emit = said.append  # type: ignore[method-assign]
