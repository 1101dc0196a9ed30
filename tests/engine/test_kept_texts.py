"""Texts that the target has written are drafted on as it computed them then; the rows are those of texts that are read again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from driftcli.conditions import Condition, DraftSettings, TextSettings, Wiring
from driftcli.domain import Axis, PairCard, RunSpec, Said
from driftcli.engine import cells
from driftcli.engine.room import KEEPING
from driftcli.engine.run import Job, measure
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.probe import Trace
from driftcli.target import in_process
from driftcli.target.target import Kept
from driftcli.traces.schema import TABLES
from tests.engine.test_run import silent, table
from tests.tiny import prompts

SPEC = RunSpec(depth=3, max_new_tokens=16, batch_size=4)
WRITTEN = {
    "other": TextSettings(template="none"),
    "long": TextSettings(length=120),
    "drawn": TextSettings(temperature=0.7),
    "alone": TextSettings(alone=True),
    "system": TextSettings(system="other", system_tokens=40),
}
REPLAYED = TextSettings(template="none", replayed=True)


@dataclass(frozen=True)
class Texts:
    """A probe with texts of its own, some of which the target writes; one condition reads other streams besides."""

    name: str = "texts"
    axes: tuple[Axis, ...] = ()

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        settings = DraftSettings(spec.depth)
        rewired = Condition("rewired", DraftSettings(spec.depth, wiring=Wiring(capture=(0, 1, 2))), self.name, text=WRITTEN["other"])
        written = [Condition(name, settings, self.name, controls=True, text=text) for name, text in WRITTEN.items()]
        return (*written, rewired, Condition("replayed", settings, self.name, text=REPLAYED))

    def judge(self, trace: Trace) -> Iterator[Said]:
        yield from ()


@pytest.fixture(scope="module")
def pair(models: Path) -> LoadedPair:
    return load_pair(str(models / "target"), str(models / "pre"), torch.device("cpu"), "float32")


def job(pair: LoadedPair, out: Path) -> Job:
    return Job(pair, prompts(6, turns=2), (Texts(),), SPEC, out, [])


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The texts that the target has read."""
    seen, reading = list[tuple[int, ...]](), in_process.read

    def noted(target: object, texts: Sequence[Any], *args: Any) -> object:
        seen.extend(tuple(text.ids) for text in texts)
        return reading(target, texts, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(in_process, "read", noted)
    return seen


def ids_of(run: Path, condition: str) -> list[list[int]]:
    """The texts in the cells of a condition."""
    return [ids for cell in (run / "trajectories").glob(f"{condition}*.parquet") for ids in pq.read_table(cell)["ids"].to_pylist()]


def assert_rows_alike(one: Path, other: Path) -> None:
    for name in TABLES:
        pd.testing.assert_frame_equal(table(one, name), table(other, name), rtol=1e-4, atol=2e-5)


def test_texts_are_read_once_at_most_and_give_the_rows_of_texts_read_again(
    pair: LoadedPair, tmp_path: Path, read: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = measure(job(pair, tmp_path / "kept"), silent)
    unwritten = [tuple(ids) for name in ("baseline", "replayed") for ids in ids_of(kept, name)]
    assert sorted(read) == sorted(unwritten)
    read.clear()
    monkeypatch.setattr(cells, "KEPT", 0)
    again = measure(job(pair, tmp_path / "read"), silent)
    assert len(read) == len(unwritten) + sum(len(ids_of(again, name)) for name in WRITTEN)
    assert_rows_alike(kept, again)


def test_a_run_that_keeps_texts_gives_the_same_rows_twice(pair: LoadedPair, tmp_path: Path) -> None:
    one, other = (measure(job(pair, tmp_path / name), silent) for name in ("one", "other"))
    for name in TABLES:
        pd.testing.assert_frame_equal(table(one, name), table(other, name), check_exact=True)


@pytest.mark.parametrize("place", ["write_texts", "read_texts"])
def test_where_memory_runs_out_nothing_is_kept_and_as_much_is_done_at_once(
    place: str, pair: LoadedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, times, made = measure(job(pair, tmp_path / "whole"), silent), list[int](), getattr(cells, place)

    def cramped(*args: Any) -> object:
        if any(isinstance(one, Kept) and one.room for one in args):
            times.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return made(*args)

    monkeypatch.setattr(cells, place, cramped)
    found = measure(job(pair, tmp_path / "cramped"), silent)
    assert times == [1]
    manifest = json.loads((found / "run.json").read_text())
    assert manifest["room"] == {KEEPING: 0} and not any("memory" in note for note in manifest["notes"])
    assert_rows_alike(expected, found)
