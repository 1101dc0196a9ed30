from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from driftcli.domain import RunSpec
from driftcli.engine import cells
from driftcli.engine.drafted import Drafted
from driftcli.engine.room import Room, out_of_memory
from driftcli.engine.run import Job, measure
from driftcli.engine.trajectories import Trajectory
from driftcli.errors import RunError
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.report.notes import remarks
from driftcli.target.language_model import LanguageModel
from driftcli.target.target import Writing
from driftcli.traces.reader import read_run
from driftcli.traces.writer import RunFolder
from tests.engine.test_run import assert_same_rows, table
from tests.tiny import prompts

CPU_IS_FULL = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."
SAID = (
    "memory did not suffice for whole batches of 4: at most {} replies were written at once, so digits may differ from those of a run with "
    "room for all (--batch-size)"
)


def fitting(most: int, seen: list[int]) -> Callable[[Sequence[int]], list[int]]:
    """Doubles numbers, so many at once at most."""

    def doubled(some: Sequence[int]) -> list[int]:
        seen.append(len(some))
        if len(some) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return [2 * one for one in some]

    return doubled


@pytest.mark.parametrize(
    ("most", "tried", "left"),
    [(8, [7], {}), (4, [7, 3, 3, 1], {"writing": 3}), (2, [7, 3, 1, 1, 1, 1, 1, 1, 1], {"writing": 1})],
)
def test_what_does_not_fit_is_halved_until_it_does_and_the_rest_is_done_so(most: int, tried: list[int], left: dict[str, int]) -> None:
    room, seen = Room(), list[int]()
    made = room.in_parts(fitting(most, seen), list(range(7)), "writing")
    assert [one for part in made for one in part] == list(range(0, 14, 2))
    assert (seen, room.most) == (tried, left)


def test_what_does_not_fit_alone_is_not_tried_again() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        Room().in_parts(fitting(0, []), [1, 2], "writing")


def test_what_is_kept_is_let_go_of_before_less_is_done_at_once() -> None:
    kept = [True]

    def let_go() -> bool:
        return bool(kept and kept.pop())

    room, seen = Room(), list[int]()
    room.in_parts(fitting(3, seen), list(range(7)), "writing", let_go)
    assert (seen, room.most) == ([7, 7, 3, 3, 1], {"keeping": 0, "writing": 3})
    assert Room().keeps and not room.keeps

    def within(most: int) -> int:
        seen.append(most)
        if most > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return most

    seen.clear()
    kept.append(True)
    room = Room()
    assert room.within(within, 8, 1, "drafting", let_go) == 2
    assert (seen, room.most) == ([8, 8, 4, 2], {"keeping": 0, "drafting": 2})


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (RuntimeError(CPU_IS_FULL), True),
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("shape"), False),
    ],
)
def test_only_a_want_of_memory_is_one(error: BaseException, full: bool) -> None:
    assert out_of_memory(error) is full


def test_other_errors_are_not_swallowed() -> None:
    def broken(_: Sequence[int]) -> int:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        Room().in_parts(broken, [1, 2], "writing")


# ---- in a run


@pytest.fixture(scope="module")
def loaded(models: Path) -> LoadedPair:
    return load_pair(str(models / "target"), str(models / "post"), torch.device("cpu"), "float32")


def job(loaded: LoadedPair, out: Path) -> Job:
    return Job(loaded, prompts(8, turns=2), (), RunSpec(depth=3, max_new_tokens=8, batch_size=4), out, [])


def small_memory(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """No more than so many replies are written at once; what was tried."""
    tried, whole = list[int](), LanguageModel.write

    def write(self: LanguageModel, asked: Sequence[Sequence[int]], writing: Writing) -> list[list[int]]:
        tried.append(len(asked))
        if len(asked) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, asked, writing)

    monkeypatch.setattr(LanguageModel, "write", write)
    return tried


def test_a_run_short_of_memory_goes_on_with_half_a_batch_and_says_so(
    loaded: LoadedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure(job(loaded, tmp_path / "whole"), lambda *_: None)
    tried = small_memory(monkeypatch, 2)
    run = read_run(measure(job(loaded, tmp_path / "r"), lambda *_: None))
    assert tried == [4, *[2] * 8]  # two turns of two halves of two batches; a whole batch is tried once only
    assert SAID.format(2) in remarks(run)
    assert_same_rows(whole, run.path)  # of the tiny target digits are the same, row for row, whoever else is in a batch
    assert SAID.format(4) not in remarks(read_run(whole)) and json.loads((whole / "run.json").read_text())["room"] == {}
    order = [pq.read_table(path)["prompt"].to_pylist() for path in sorted((run.path / "trajectories").glob("*.parquet"))]
    assert order == [pq.read_table(path)["prompt"].to_pylist() for path in sorted((whole / "trajectories").glob("*.parquet"))]


def test_a_run_without_room_for_texts_side_by_side_drafts_on_fewer_and_says_so(
    loaded: LoadedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure(job(loaded, tmp_path / "whole"), lambda *_: None)
    longest = max(length for path in (whole / "trajectories").glob("*.parquet") for length in pq.read_table(path)["length"].to_pylist())
    tried, draft = list[int](), cells.draft

    def cramped(pair: LoadedPair, texts: Sequence[Trajectory], *args: Any, **kwargs: Any) -> Drafted:
        tried.append(sum(len(text.ids) for text in texts))
        if tried[-1] > longest:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return draft(pair, texts, *args, **kwargs)

    monkeypatch.setattr(cells, "draft", cramped)
    run = read_run(measure(job(loaded, tmp_path / "r"), lambda *_: None))
    mine, theirs = (table(path, "steps") for path in (run.path, whole))
    assert mine["drafted"].tolist() == theirs["drafted"].tolist()
    pd.testing.assert_frame_equal(mine, theirs, rtol=1e-5, atol=1e-5)
    (said,) = [line for line in remarks(run) if line.startswith("memory did not suffice for as many texts side by side: at most ")]
    assert longest <= int(said.split("at most ")[1].split()[0]) < tried[0]


def test_a_resumed_run_still_knows_how_much_there_was_room_for(loaded: LoadedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = RunFolder.write_cell

    def once(self: RunFolder, condition: str, batch: Sequence[str], tables: object) -> None:
        if self.batches.index(tuple(batch)):
            raise KeyboardInterrupt
        kept(self, condition, batch, tables)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        small_memory(patch, 1)
        patch.setattr(RunFolder, "write_cell", once)
        with pytest.raises(KeyboardInterrupt):
            measure(job(loaded, tmp_path / "r"), lambda *_: None)
    run = read_run(measure(job(loaded, tmp_path / "r"), lambda *_: None))
    assert SAID.format(1) in remarks(run)


def test_a_text_that_finds_no_room_alone_is_refused_in_one_sentence(
    loaded: LoadedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_memory(monkeypatch, 0)
    with pytest.raises(RunError, match=r"baseline: no memory is left .* expected room for one text and its chains"):
        measure(job(loaded, tmp_path / "r"), lambda *_: None)
