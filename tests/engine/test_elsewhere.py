"""A target that an engine serves, played by the tiny one behind nothing but the contract: what is measured, and what is left out by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pyarrow.dataset as ds
import pytest

from driftcli.domain import Absent, RunSpec
from driftcli.engine.forecast import timed_speed
from driftcli.engine.run import Job, measure
from driftcli.engine.timing import measure_costs
from driftcli.errors import RunError
from driftcli.loading.pair import LoadedPair
from driftcli.report.json import report
from driftcli.report.verdict import judge
from driftcli.statistics.curves import target_entropy
from driftcli.target.language_model import LanguageModel
from driftcli.target.target import Reading, Served, Target, Unread, Writing
from driftcli.traces.reader import read_run
from probes.sampling import Sampling
from tests.tiny import prompts

SPEC = RunSpec(depth=4, max_new_tokens=16, batch_size=3)
CONTRACT = {name for name in vars(Target) if not name.startswith("_")}


class Elsewhere:
    """The tiny target as an engine would have it: greedy replies, no entropies, no weights to get at."""

    served = Served("vLLM", "0.1", "fp8", {"tensor_parallel_size": 2})
    untold = "its head is elsewhere"

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm

    def __getattr__(self, name: str) -> Any:
        assert name in CONTRACT, f"{name} is not of the contract"
        return getattr(self._lm, name)

    def write(self, asked: Sequence[Sequence[int]], writing: Writing) -> list[list[int]]:
        if writing.temperature:
            raise RunError("replies are not drawn there, expected greedy ones; use another engine")
        return self._lm.write(asked, writing)

    def read_all(
        self, texts: Sequence[Unread], boundaries: Sequence[int], temperature: float = 1.0, most: int | None = None
    ) -> Iterator[Reading]:
        return (replace(read, entropies=None) for read in self._lm.read_all(texts, boundaries, temperature, most))


def elsewhere(pair: LoadedPair) -> LoadedPair:
    assert isinstance(pair.target, LanguageModel)
    return replace(pair, target=cast(Target, Elsewhere(pair.target)))


def run(pair: LoadedPair, out: Path) -> Path:
    return measure(Job(pair, prompts(5), (Sampling(),), SPEC, out, ["sampling"]), lambda *_: None)


def rows(out: Path, table: str, *, without: Sequence[str] = ()) -> list[dict[str, Any]]:
    files = sorted((out / table).glob("baseline-*.parquet"))
    return [{name: value for name, value in row.items() if name not in without} for row in ds.dataset(files).to_table().to_pylist()]


@pytest.fixture
def both(pair: Callable[[str], LoadedPair], tmp_path: Path) -> tuple[Path, Path]:
    here = pair("post")
    return run(here, tmp_path / "here"), run(elsewhere(here), tmp_path / "elsewhere")


def test_the_same_rows_are_measured_through_the_contract_alone_but_for_entropies(both: tuple[Path, Path]) -> None:
    here, there = both
    for table in ("steps", "heads", "streams"):
        assert rows(here, table) == rows(there, table) != []
    assert rows(here, "trajectories", without=["target_entropy"]) == rows(there, "trajectories", without=["target_entropy"])
    for row in rows(there, "trajectories"):
        assert row["target_entropy"] == [None] * (row["length"] - row["prompt_length"])


def test_entropy_is_absent_and_never_zero(both: tuple[Path, Path]) -> None:
    here, there = map(read_run, both)
    assert here.estimate(target_entropy).value is not None
    absent = there.estimate(target_entropy)
    assert isinstance(absent, Absent) and absent.value is None


def test_the_record_says_what_served_the_target_what_is_not_told_and_what_could_not_be_asked(both: tuple[Path, Path]) -> None:
    here, there = (json.loads((out / "run.json").read_text()) for out in both)
    assert here["request"]["engine"] is None
    assert there["request"]["engine"] == {"engine": "vLLM", "version": "0.1", "quantisation": "fp8", "args": {"tensor_parallel_size": 2}}
    assert [note for note in there["notes"] if note not in here["notes"]] == [
        "vLLM does not tell the entropy of the target (its head is elsewhere), so target_entropy is null in the traces"
    ]
    assert (here["failed"], {one["name"] for one in there["failed"]}) == ([], {"temperature-0.7", "temperature-1"})
    assert all("replies are not drawn there" in one["reason"] for one in there["failed"])
    found = read_run(both[1])
    assert report(found, judge(found, (Sampling(),)))["run"]["request"]["engine"]["engine"] == "vLLM"  # type: ignore[index,call-overload]


def test_rows_of_one_engine_are_not_gone_on_with_by_another(pair: Callable[[str], LoadedPair], both: tuple[Path, Path]) -> None:
    with pytest.raises(RunError, match=r"holds another request \(engine was None, now"):
        run(elsewhere(pair("post")), both[0])
    with pytest.raises(RunError, match="holds another request"):
        run(pair("post"), both[1])


def test_a_run_from_before_engines_could_be_named_is_gone_on_with(pair: Callable[[str], LoadedPair], both: tuple[Path, Path]) -> None:
    manifest = json.loads((both[0] / "run.json").read_text())
    del manifest["request"]["engine"]
    (both[0] / "run.json").write_text(json.dumps(manifest))
    before = {file: file.stat().st_mtime_ns for file in (both[0] / "steps").iterdir()}
    run(pair("post"), both[0])
    assert {file: file.stat().st_mtime_ns for file in (both[0] / "steps").iterdir()} == before


def test_steps_are_not_timed_where_an_engine_takes_them_and_a_plan_is_made_all_the_same(pair: Callable[[str], LoadedPair]) -> None:
    there = elsewhere(pair("post"))
    with pytest.raises(RunError, match="vLLM takes the target's steps, which are not timed from here; give --costs of its server"):
        measure_costs(there, [1], 4, 20)
    assert timed_speed(there, prompts(2), 2).read.call >= 0


def test_the_streams_that_an_engine_is_asked_for_are_those_of_every_wiring_that_the_files_leave_open(
    pair: Callable[[str], LoadedPair],
) -> None:
    asked = pair("post").boundaries
    assert set(pair("post").drafter.boundaries) < set(asked)  # type: ignore[union-attr]
    assert {boundary for one in pair("post").card.alternatives for boundary in one.capture or ()} < set(asked)
