from __future__ import annotations

import pytest

from driftcli.domain import SYSTEMS, System
from driftcli.errors import FormatError, PairError
from driftcli.families.eagle.capture_layers import KEY, NEST, captured, last_state, layer_ids, reads_last_state, unusable
from driftcli.families.record import Record
from driftcli.sources.files import Json
from driftcli.target.facts import NO_TARGET, TargetFacts
from tests.edits import refused

VLLM, SGLANG, TRAINED, V1 = SYSTEMS
DEFAULT = "default:vLLM, SGLang and SafeAILab"


def target(layers: int, model_type: str = "llama") -> TargetFacts:
    return TargetFacts("some-target", layers=layers, model_type=model_type)


def read(
    config: dict[str, Json], system: System = VLLM, layers: int = 8, streams: int = 3, model_type: str = "llama"
) -> tuple[object, str]:
    found = captured(layer_ids(Record("head", config)), system, target(layers, model_type))
    if (wrong := unusable(found, "head", streams, target(layers))) is not None:
        raise wrong
    return found.boundaries, found.source


def nested(*ids: int) -> dict[str, Json]:
    return {NEST: {KEY: list(ids)}}


@pytest.mark.parametrize("config", [{}, {NEST: None}, {NEST: {}}, {NEST: {KEY: None}}, {NEST: {KEY: []}}, {KEY: []}])
@pytest.mark.parametrize("system", SYSTEMS)
def test_without_ids_everybody_takes_the_same_defaults(config: dict[str, Json], system: System) -> None:
    assert read(config, system) == ((2, 4, 5), DEFAULT)


@pytest.mark.parametrize(
    ("config", "vllm", "sglang", "trained", "v1"),
    [
        ({KEY: [1, 4, 8]}, (1, 4, 8), (2, 4, 5), (1, 4, 8), (1, 4, 8)),  # SGLang does not look at the top level
        ({KEY: [5, 4, 2]}, (2, 4, 5), (2, 4, 5), (5, 4, 2), (2, 4, 5)),  # servers sort, training kept its order
        ({KEY: [1, 3, 4]}, (1, 3, 4), (2, 4, 5), (2, 4, 5), (1, 3, 4)),  # the defaults of layer outputs, copied unshifted
        (nested(1, 3, 4), (2, 4, 5), (2, 4, 5), (2, 4, 5), (1, 3, 4)),
        (nested(0, 4, 6), (2, 4, 5), (1, 5, 7), (1, 5, 7), (0, 4, 6)),  # vLLM's V2 does not look inside, its V1 takes them as boundaries
        (nested(2, 4, 5), (2, 4, 5), (3, 5, 6), (2, 4, 5), (2, 4, 5)),  # the defaults of boundaries
        ({NEST: {"layer_ids": [1, 4, 6]}}, (1, 4, 6), (2, 4, 5), (1, 4, 6), (2, 4, 5)),  # what V2 reads there and nobody else
        ({NEST: {"layer_ids": [1, 4, 6], KEY: [0, 4, 6]}}, (1, 4, 6), (1, 5, 7), (1, 5, 7), (0, 4, 6)),
        ({KEY: [2, 3, 4], **nested(1, 3, 4)}, (2, 3, 4), (2, 4, 5), (2, 3, 4), (2, 3, 4)),
    ],
)
def test_each_system_reads_ids_by_its_own_convention(
    config: dict[str, Json], vllm: tuple[int, ...], sglang: tuple[int, ...], trained: tuple[int, ...], v1: tuple[int, ...]
) -> None:
    assert [read(config, system)[0] for system in SYSTEMS] == [vllm, sglang, trained, v1]


def test_the_source_says_the_key_and_the_convention() -> None:
    assert read({KEY: [1, 3, 4]})[1] == f"config:{KEY} read as boundaries"
    assert read(nested(0, 4, 6))[1] == f"default:vLLM, which does not read {NEST}.{KEY}"
    assert read(nested(0, 4, 6), SGLANG)[1] == f"config:{NEST}.{KEY} read as layer outputs"
    assert read(nested(0, 4, 6), TRAINED)[1] == f"assumed:config:{NEST}.{KEY} written as layer outputs"
    assert read({KEY: [1, 4, 8]}, SGLANG)[1] == f"default:SGLang, which does not read {KEY}"


def test_ids_that_end_in_the_last_boundary_can_only_be_boundaries() -> None:
    assert read(nested(4, 6, 8), TRAINED)[0] == (4, 6, 8)
    assert read(nested(4, 6, 8), SGLANG, model_type="gpt_oss")[0] == (4, 6, 8)
    refused(PairError, lambda: read(nested(4, 6, 8), SGLANG), "after layer 9", "some-target has 8 layers")


def test_sglang_shifts_ids_of_a_deepseek_target_only_where_they_start_with_1() -> None:
    assert read(nested(1, 3, 5), SGLANG, model_type="deepseek_v3")[0] == (2, 4, 6)
    assert read(nested(2, 4, 6), SGLANG, model_type="deepseek_v3")[0] == (2, 4, 6)


def test_without_a_target_defaults_are_named_and_ids_are_still_read() -> None:
    assert captured({}, VLLM, NO_TARGET).boundaries == "2, L/2, L-3"
    assert captured(layer_ids(Record("head", nested(0, 4, 6))), SGLANG, NO_TARGET).boundaries == (1, 5, 7)


def test_a_head_of_the_last_state_reads_what_leaves_the_final_norm() -> None:
    assert reads_last_state(Record("head", {NEST: {"use_aux_hidden_state": False}}))
    assert not reads_last_state(Record("head", {}))
    assert last_state(Record("head", {}), target(8)).boundaries == (9,)
    assert unusable(last_state(Record("head", {}), target(8)), "head", 1, target(8)) is None
    assert unusable(last_state(Record("head", {}), NO_TARGET), "head", 1, NO_TARGET) is None


@pytest.mark.parametrize("layers", range(7, 40))
def test_the_default_boundaries_are_distinct_ascending_and_inside_from_seven_layers_on(layers: int) -> None:
    low, middle, high = read({}, layers=layers)[0]  # type: ignore[misc]
    assert 0 < low < middle < high < layers


@pytest.mark.parametrize("layers", range(1, 7))
def test_the_defaults_of_a_smaller_target_are_refused_and_named_ids_are_not(layers: int) -> None:
    refused(PairError, lambda: read({}, layers=layers), "some-target", f"{layers} layers", "at least 7", KEY)
    assert read({KEY: [0, layers]}, layers=layers, streams=2)[0] == (0, layers)


def test_ids_beyond_the_targets_layers_are_refused_as_those_of_a_deeper_target() -> None:
    refused(
        PairError, lambda: read({KEY: [2, 4, 9]}), "head", "after layer", "some-target has 8 layers", "name the target it was trained for"
    )


@pytest.mark.parametrize(("config", "streams"), [({}, 2), ({}, 4), ({KEY: [2, 4]}, 3), ({KEY: [2, 2, 4]}, 3), ({KEY: [1, 2, 3, 4]}, 3)])
def test_as_many_ids_are_needed_as_fc_reads_streams(config: dict[str, Json], streams: int) -> None:
    refused(FormatError, lambda: read(config, streams=streams), "head", f"{streams} streams", "capture layers are [", "correct")


@pytest.mark.parametrize(
    "value", [3, "2,4,5", [2, 4, "5"], [2, 4, 5.0], [2, 4, -1], [2, 4, True], [2, 4, None], {"a": 2}, [[2, 4, 5]], False]
)
def test_ids_that_are_no_list_of_layer_numbers_are_refused(value: Json) -> None:
    for config in ({KEY: value}, {NEST: {KEY: value}}):
        refused(
            FormatError, lambda config=config: read(config), "head/config.json", f"{KEY} is {value!r}", "expected a list of layer numbers"
        )


@pytest.mark.parametrize("value", [[], [1, 3, 4], "yes", 3, True])
def test_a_nested_config_that_is_no_object_is_refused(value: Json) -> None:
    refused(FormatError, lambda: layer_ids(Record("head", {NEST: value})), "head/config.json", repr(value), "expected an object")
