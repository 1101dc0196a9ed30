from __future__ import annotations

import pytest

from driftcli.domain import Sourced
from driftcli.errors import FormatError
from driftcli.families.record import Record
from driftcli.sources.files import Json
from tests.edits import refused


def test_a_given_value_is_noted_with_its_key_and_a_missing_one_with_the_system_whose_default_it_takes() -> None:
    record = Record("head", {"num": 3, "nothing": None})
    assert record.integer("a", "num", 7, "vLLM") == 3
    assert record.integer("b", "gone", 7, "vLLM") == 7
    assert record.integer("c", "nothing", 8, "vLLM") == 8
    assert record.fields == {"a": Sourced(3, "config:num"), "b": Sourced(7, "default:vLLM"), "c": Sourced(8, "default:vLLM")}


def test_a_missing_value_without_default_is_refused() -> None:
    refused(FormatError, lambda: Record("head", {}).integer("a", "num", None, "vLLM"), "head/config.json", "num is missing", "add it")


@pytest.mark.parametrize("value", [0, -1, True, False, 1.0, 2.5, "4", [4], {"a": 4}, float("nan")])
def test_what_is_no_positive_whole_number_is_refused(value: Json) -> None:
    read = Record("head", {"num": value})
    refused(FormatError, lambda: read.integer("a", "num", 1, "vLLM"), "head/config.json", f"num is {value!r}", "a positive whole number")


@pytest.mark.parametrize("value", [0, -1e-5, True, "1e-5", [1e-5], float("nan"), float("inf"), 10**400])
def test_what_is_no_positive_number_is_refused(value: Json) -> None:
    read = Record("head", {"eps": value})
    refused(FormatError, lambda: read.number("a", "eps", 1e-6, "vLLM"), "head/config.json", "eps is", "expected a positive number")


@pytest.mark.parametrize("value", [0, 1, "true", "", [], {}])
def test_what_is_neither_true_nor_false_is_refused(value: Json) -> None:
    read = Record("head", {"flag": value})
    refused(FormatError, lambda: read.is_on("flag"), "head/config.json", f"flag is {value!r}", "expected true or false")


@pytest.mark.parametrize("value", [0, True, ["silu"], {}])
def test_what_is_no_text_is_refused(value: Json) -> None:
    read = Record("head", {"act": value})
    refused(FormatError, lambda: read.text("a", "act", "silu", "vLLM"), "head/config.json", f"act is {value!r}", "expected text")


def test_a_whole_number_is_a_number() -> None:
    assert Record("head", {"eps": 1}).number("a", "eps", 1e-6, "vLLM") == 1.0
