from __future__ import annotations

import pytest

from driftcli.cli import engine
from driftcli.cli.engine import checked_engine
from driftcli.errors import UsageError
from tests.edits import refused


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: name)


@pytest.mark.usefixtures("vllm")
def test_arguments_are_an_object_of_json() -> None:
    assert checked_engine("vllm", '{"tensor_parallel_size": 2, "quantization": "fp8"}') == {
        "tensor_parallel_size": 2,
        "quantization": "fp8",
    }
    assert checked_engine("vllm", None) == {}


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize(("args", "seen"), [("{", "no JSON"), ("[1]", "expected an object"), ("[" * 100_000, "no JSON"), ("", "no JSON")])
def test_other_arguments_are_refused(args: str, seen: str) -> None:
    refused(UsageError, lambda: checked_engine("vllm", args), "--engine-args", seen, "as {")


def test_arguments_without_their_engine_are_refused() -> None:
    assert checked_engine("transformers", None) == {}
    refused(UsageError, lambda: checked_engine("transformers", "{}"), "--engine-args", "add --engine vllm")


def test_an_engine_that_is_not_installed_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda _: None)
    refused(UsageError, lambda: checked_engine("vllm", None), "--engine vllm", "not installed", "driftcli[vllm]")
