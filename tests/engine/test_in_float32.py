"""What a shorter dtype does to draft tokens is what the rows of two runs on the same texts say, and not measured where there is no room."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from driftcli.domain import RunSpec
from driftcli.engine.run import Job, measure
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.texts.prompts import content_hash
from tests.tiny import prompts, write_head, write_target

DEPTH, CPU = 4, torch.device("cpu")
Rows = dict[tuple[str, int, int, int], int]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("dtypes")
    return str(write_target(folder / "target")), str(write_head(folder / "head"))


def load(folders: tuple[str, str], dtype: str) -> LoadedPair:
    return load_pair(*folders, CPU, dtype)  # type: ignore[arg-type]


def job(folders: tuple[str, str], dtype: str, out: Path) -> Job:
    """A baseline on given responses, so that the texts are the same in every dtype."""
    asked = [replace(prompt, response="what is said is the same " * (2 + number % 3)) for number, prompt in enumerate(prompts(6))]
    return Job(load(folders, dtype), asked, (), RunSpec(depth=DEPTH), out, [], in_float32=partial(load, folders, "float32"))


def forced(run: Path) -> Rows:
    found: Rows = {}
    for file in (run / "steps").glob("baseline-*.parquet"):
        for row in pq.read_table(file).to_pylist():
            if row["feed"] == "forced":
                found[row["prompt"], row["turn"], row["anchor"], row["depth"]] = row["drafted"]
    return found


def told(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())["rounding"]  # type: ignore[no-any-return]


def test_counts_are_those_of_the_rows_of_two_runs(folders: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftcli.target.together.ON_CPU", 1)  # each text alone, as it is measured again
    here, whole = (job(folders, dtype, tmp_path / dtype) for dtype in ("bfloat16", "float32"))
    for one in (here, whole):
        measure(one, lambda *_: None)
    assert "rounding" not in json.loads((whole.out / "run.json").read_text())
    rows, there = forced(here.out), forced(whole.out)
    assert rows.keys() == there.keys()
    other = {key for key in rows if rows[key] != there[key]}
    drafted, anchors = Counter(key[0] for key in rows), Counter(key[0] for key in rows if key[3] == 1)
    changed = Counter(prompt for prompt, *_ in {key[:3] for key in other})
    ids = sorted((prompt.id for prompt in here.prompts), key={one.id: content_hash(one) for one in here.prompts}.__getitem__)
    tokens = Counter(key[0] for key in other)
    expected = [
        {"anchors": anchors[name], "other_anchors": changed[name], "drafted": drafted[name], "other_drafted": tokens[name]} for name in ids
    ]
    found = told(here.out)
    assert 0 < len(other) < len(rows) / 2
    assert sorted(map(str, found["prompts"])) == sorted(map(str, expected))
    assert (found["texts"], found["reason"]) == (6, "")


def test_what_has_no_room_is_said_not_to_be_measured(folders: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftcli.engine.in_float32.free_memory", lambda _: 1000)
    one = job(folders, "float16", tmp_path / "run")
    measure(one, lambda *_: None)
    assert told(one.out)["prompts"] == []
    assert told(one.out)["reason"].endswith("GiB more, 0.0 GiB are free")


def test_memory_that_runs_out_on_the_way_leaves_the_run_whole(folders: tuple[str, str], tmp_path: Path) -> None:
    def full() -> LoadedPair:
        raise torch.OutOfMemoryError("full")

    one = replace(job(folders, "bfloat16", tmp_path / "run"), in_float32=full)
    measure(one, lambda *_: None)
    assert told(one.out)["reason"] == "memory did not suffice for the pair in float32 beside it"
    assert json.loads((one.out / "run.json").read_text())["complete"]
