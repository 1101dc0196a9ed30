"""Texts that the target has written are drafted on as it computed them then; the rows are those of texts that are read again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from driftcli.conditions import Condition, DraftSettings, TextSettings, Wiring
from driftcli.domain import Axis, PairCard, RunSpec, Said
from driftcli.engine import batches, cells, shares
from driftcli.engine.room import KEEPING
from driftcli.engine.run import Job, measure
from driftcli.engine.texts import Text, write_texts
from driftcli.engine.trajectories import Readings
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.probe import Trace
from driftcli.target import in_process
from driftcli.target.language_model import LanguageModel
from driftcli.target.target import Kept, Writing
from driftcli.traces.schema import TABLES
from tests.engine.test_run import Again, TwoRounds, Windows, assert_same_rows, silent, table
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
    own, replayed = ([tuple(ids) for ids in ids_of(kept, name)] for name in ("baseline", "replayed"))
    assert sorted(read) == sorted(own), "replayed ones are read behind the prompts of those that are written"
    read.clear()
    monkeypatch.setattr(batches, "KEPT", 0)
    again = measure(job(pair, tmp_path / "read"), silent)
    assert len(read) == len(own) + len(replayed) + sum(len(ids_of(again, name)) for name in WRITTEN)
    assert_rows_alike(kept, again)


def test_what_is_read_beside_takes_no_room_from_what_is_written(
    pair: LoadedPair, tmp_path: Path, read: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts of two turns, with as much room as those of both have that are written: one of the first turn that is read beside has none."""
    takers, taking, asked = list[tuple[Sequence[Condition], Kept]](), batches.taking, batches._asked

    def noted(work: batches.Work, conditions: Sequence[Condition]) -> Kept:
        takers.append((conditions, taking(work, conditions)))
        return takers[-1][1]

    with monkeypatch.context() as patched:
        patched.setattr(batches, "taking", noted)
        patched.setattr(batches, "_asked", lambda groups, continued, replayed: asked(groups, continued, [[] for _ in replayed]))
        written = set(map(tuple, ids_of(measure(job(pair, tmp_path / "whole"), silent), "other")))
        used = max(batches.KEPT - kept.room for conditions, kept in takers if any(one.text == WRITTEN["other"] for one in conditions))
    for less, expected in ((0, False), (1, True)):
        monkeypatch.setattr(batches, "KEPT", used - less)
        read.clear()
        measure(job(pair, tmp_path / str(less)), silent)
        assert bool(written & set(read)) == expected


def test_a_run_that_keeps_texts_gives_the_same_rows_twice(pair: LoadedPair, tmp_path: Path) -> None:
    one, other = (measure(job(pair, tmp_path / name), silent) for name in ("one", "other"))
    for name in TABLES:
        pd.testing.assert_frame_equal(table(one, name), table(other, name), check_exact=True)


@pytest.mark.parametrize(("module", "place"), [(batches, "write_texts"), (batches, "write_together"), (cells, "read_texts")])
def test_where_memory_runs_out_nothing_is_kept_and_as_much_is_done_at_once(
    module: ModuleType, place: str, pair: LoadedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, times, made = measure(job(pair, tmp_path / "whole"), silent), list[int](), getattr(module, place)

    def cramped(*args: Any) -> object:
        kept = [one.kept if isinstance(one, Writing) else one for one in args]
        if any(isinstance(one, Kept) and one.room for one in kept):
            times.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return made(*args)

    monkeypatch.setattr(module, place, cramped)
    found = measure(job(pair, tmp_path / "cramped"), silent)
    assert times == [1]
    manifest = json.loads((found / "run.json").read_text())
    assert manifest["room"] == {KEEPING: 0} and not any("memory" in note for note in manifest["notes"])
    assert_rows_alike(expected, found)


def test_conditions_are_written_together_as_one_by_one(pair: LoadedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, writing = list[int](), LanguageModel.write

    def noted(target: LanguageModel, prompts: Sequence[Sequence[int]], how: Writing) -> list[list[int]]:
        rows.append(len(prompts))
        return writing(target, prompts, how)

    monkeypatch.setattr(LanguageModel, "write", noted)
    found = measure(job(pair, tmp_path / "together"), silent)
    four = {"own": [4, 4], "other": [4, 4], "long": [4], "drawn": [4, 4], "alone": 8 * [1], "system": [4, 4]}  # a call a turn
    two = {"own": [2, 2], "other and long": [2 + 2, 2], "drawn": [2, 2], "alone": 4 * [1], "system": [2, 2]}
    assert sorted(rows) == sorted(chain(*four.values(), *two.values()))
    monkeypatch.setattr(shares, "_is_written", lambda *_: False)
    expected = measure(job(pair, tmp_path / "apart"), silent)
    for name in WRITTEN:
        assert ids_of(found, name) == ids_of(expected, name)
    assert_rows_alike(found, expected)


def test_the_own_texts_are_read_once_for_all_rounds_and_give_the_rows_of_texts_read_each_time(
    pair: LoadedPair, tmp_path: Path, read: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    battery = (TwoRounds(Wiring()), Windows(), Again())
    asked = Job(pair, prompts(6, turns=2), battery, SPEC, tmp_path / "once", [])
    once = measure(asked, silent)
    own = sorted(tuple(ids) for ids in ids_of(once, "baseline"))
    assert sorted(read) == own
    read.clear()
    monkeypatch.setattr(Readings, "_noted", lambda *args: args[-1])
    each = measure(replace(asked, out=tmp_path / "each"), silent)
    assert sorted(read) == sorted(4 * own), "of the search, its second round, the rest and the last question"
    assert_same_rows(once, each)


def test_own_texts_beyond_their_room_are_read_each_time(pair: LoadedPair, read: list[tuple[int, ...]]) -> None:
    text, other = write_texts(pair.target, prompts(2), 8)
    boundaries, size = (1, 2), (len(text.ids) - 1) * 2 * 4 * pair.target.config.hidden_size

    def counted(readings: Readings, text: Text, asked: Sequence[int] = boundaries, most: int = 512) -> int:
        read.clear()
        (found,) = readings.read(pair.target, [text], asked, boundaries, 1.0, most)
        assert set(asked) <= found.streams.keys() and found.text is text
        return len(read)

    enough, narrow = Readings(size), Readings(size - 1)
    assert [counted(enough, text), counted(enough, text), counted(enough, text, (1,))] == [1, 0, 0]
    assert [counted(enough, text, (1, 2, 3)), counted(enough, text, most=64), counted(enough, other)] == [1, 1, 1], "not as they were read"
    assert [counted(narrow, text), counted(narrow, text)] == [1, 1]
    assert enough.let_go() and not enough.let_go() and counted(enough, text) == 1
