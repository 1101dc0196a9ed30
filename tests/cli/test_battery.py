from __future__ import annotations

from pathlib import Path

import pytest

from driftcli.cli.battery import WHOLE, load_battery, probe_names
from driftcli.errors import ProbeError, UsageError
from probes.streams import Streams

OWN = """
from probes.streams import Streams
class Mine(Streams):
    pass
PROBE = Mine("mine")
HALF = object()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of somebody else that can be imported."""
    (tmp_path / "somebody_elses.py").write_text(OWN)
    (tmp_path / "broken_one.py").write_text("def (:\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "somebody_elses"


def test_no_name_means_the_whole_battery() -> None:
    assert load_battery([]) == WHOLE


def test_a_name_means_one_probe_and_a_name_given_twice_still_one() -> None:
    assert load_battery(["streams", "streams"]) == (Streams(),)


def test_the_names_of_a_battery_find_it_again() -> None:
    assert load_battery(probe_names(WHOLE, [])) == WHOLE
    assert load_battery(probe_names(load_battery(["streams"]), ["streams"])) == (Streams(),)


def test_a_probe_of_ones_own_is_found_by_module_and_name(module: str) -> None:
    (probe,) = load_battery([f"{module}:PROBE"])
    assert probe.name == "mine"


@pytest.mark.parametrize("name", ["steams", "", ":X", "a:", "a..b:X", "./probe.py:X", "a:b.c"])
def test_a_name_that_cannot_be_a_probe_is_a_usage_error(name: str) -> None:
    with pytest.raises(
        UsageError, match=r"no such probe; (did you mean streams[?] )?expected one of wiring, position-range, controls, chain-length"
    ):
        load_battery([name])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_package.module:X", "cannot be imported"),
        ("somebody_elses:NOTHING", "cannot be imported"),
        ("broken_one:X", "cannot be imported"),
        ("somebody_elses:Mine", "is a class, expected an object"),
        ("somebody_elses:HALF", "has no name, expected an object with name, axes, conditions and judge"),
    ],
)
@pytest.mark.usefixtures("module")
def test_what_is_no_probe_is_refused_with_what_it_lacks(name: str, words: str) -> None:
    with pytest.raises(ProbeError, match=words):
        load_battery([name])
