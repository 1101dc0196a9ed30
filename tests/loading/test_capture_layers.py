from __future__ import annotations

import pytest

from driftcli.errors import FormatError, PairError
from driftcli.loading.capture_layers import KEY, capture_layers, nested_config
from driftcli.loading.files import Json
from driftcli.loading.record import Record
from tests.loading.edits import refused


def read(config: dict[str, Json], layers: int = 8, streams: int = 3) -> tuple[tuple[int, ...], str]:
    record = Record("head", config)
    boundaries = capture_layers(record, layers, streams, "some-target")
    assert record.fields["capture"].value == boundaries
    return boundaries, record.fields["capture"].source


NESTED, TOP = f"config:eagle_config.{KEY} read as", f"config:{KEY} read as"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ((2, 4, 5), "default:vLLM, SGLang and SafeAILab")),
        ({"eagle_config": None}, ((2, 4, 5), "default:vLLM, SGLang and SafeAILab")),
        ({"eagle_config": {}}, ((2, 4, 5), "default:vLLM, SGLang and SafeAILab")),
        ({"eagle_config": {KEY: None}}, ((2, 4, 5), "default:vLLM, SGLang and SafeAILab")),
        ({KEY: [1, 3, 4]}, ((1, 3, 4), f"{TOP} boundaries")),
        ({KEY: [0, 4, 8]}, ((0, 4, 8), f"{TOP} boundaries")),
        ({KEY: [5, 4, 2]}, ((2, 4, 5), f"{TOP} boundaries")),
        ({"eagle_config": {KEY: [1, 3, 4]}}, ((2, 4, 5), f"{NESTED} layer outputs")),
        ({"eagle_config": {KEY: [2, 4, 5]}}, ((2, 4, 5), f"{NESTED} boundaries")),
        ({"eagle_config": {KEY: [1, 3, 8]}}, ((1, 3, 8), f"{NESTED} boundaries")),
        ({KEY: [2, 3, 4], "eagle_config": {KEY: [1, 3, 4]}}, ((2, 3, 4), f"{TOP} boundaries")),
    ],
)
def test_ids_are_read_by_the_convention_of_the_key_they_stand_under(config: dict[str, Json], expected: tuple[tuple[int, ...], str]) -> None:
    assert read(config) == expected


@pytest.mark.parametrize("layers", range(7, 40))
def test_the_default_boundaries_are_distinct_ascending_and_inside_from_seven_layers_on(layers: int) -> None:
    low, middle, high = read({}, layers)[0]
    assert 0 < low < middle < high < layers


@pytest.mark.parametrize("layers", range(1, 7))
def test_the_defaults_of_a_smaller_target_are_refused_and_named_ids_are_not(layers: int) -> None:
    refused(PairError, lambda: read({}, layers), "some-target", f"{layers} layers", "at least 7", KEY)
    assert read({KEY: [0, layers]}, layers, streams=2)[0] == (0, layers)


@pytest.mark.parametrize("config", [{KEY: [2, 4, 9]}, {"eagle_config": {KEY: [2, 4, 30]}}])
def test_ids_beyond_the_targets_layers_are_refused_as_those_of_a_deeper_target(config: dict[str, Json]) -> None:
    refused(PairError, lambda: read(config), "head", "after layer", "some-target has 8 layers", "name the target it was trained for")


@pytest.mark.parametrize(("config", "streams"), [({}, 2), ({}, 4), ({KEY: [2, 4]}, 3), ({KEY: [2, 2, 4]}, 3), ({KEY: [1, 2, 3, 4]}, 3)])
def test_as_many_ids_are_needed_as_fc_reads_streams(config: dict[str, Json], streams: int) -> None:
    refused(FormatError, lambda: read(config, streams=streams), "head", f"{streams} streams", "capture layers are [", "correct")


@pytest.mark.parametrize(
    "value", [3, "2,4,5", [], [2, 4, "5"], [2, 4, 5.0], [2, 4, -1], [2, 4, True], [2, 4, None], {"a": 2}, [[2, 4, 5]], False]
)
def test_ids_that_are_no_list_of_layer_numbers_are_refused(value: Json) -> None:
    for config in ({KEY: value}, {"eagle_config": {KEY: value}}):
        refused(
            FormatError, lambda config=config: read(config), "head/config.json", f"{KEY} is {value!r}", "expected a list of layer numbers"
        )


@pytest.mark.parametrize("value", [[], [1, 3, 4], "yes", 3, True])
def test_a_nested_config_that_is_no_object_is_refused(value: Json) -> None:
    refused(
        FormatError, lambda: nested_config(Record("head", {"eagle_config": value})), "head/config.json", repr(value), "expected an object"
    )
