from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from driftcli.statistics.curves import forced_accuracy, length_by_draft_length
from driftcli.traces.reader import read_run
from driftcli.traces.writer import write_parquet
from examples.traces import DRAFT_LENGTH, QUESTIONS, connected, ending, lost, opened, shorter, sink, unsure
from tests.report.synthetic import DRIFTING, Recipe, write_run

ROOT = Path(__file__).parents[2]
RECIPE = replace(Recipe(DRIFTING), prompts=("a", "b", "it's"), anchors=45)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with heads, and with a target that is now sure and now not."""
    path, draw = write_run(tmp_path_factory.mktemp("traces") / "r'un", RECIPE), np.random.default_rng(0)
    (texts,) = (path / "trajectories").iterdir()
    table = pq.read_table(texts)
    entropy = pa.array(
        [draw.random(len(one)).astype("float32") for one in table["target_entropy"].to_pylist()], table.schema.field("target_entropy").type
    )
    pq.write_table(table.set_column(table.schema.get_field_index("target_entropy"), table.schema.field("target_entropy"), entropy), texts)
    rows = [(depth, head) for depth in range(1, 9) for head in range(4)]
    heads = {
        **{name: ["baseline"] * 32 for name in ("probe", "condition")}, "prompt": ["a"] * 32, "turn": [0] * 32, "feed": ["forced"] * 32,
        "depth": [depth for depth, _ in rows], "layer": [0] * 32, "head": [head for _, head in rows], "anchors": [45] * 32, "entropy": [1.0] * 32,
        **{f"share_{name}": draw.random(32) for name in ("template", "prompt", "verified", "ahead", "recent")},
        "share_sink": [(head + 1) / (5 * depth) for depth, head in rows],
    }  # fmt: skip
    write_parquet(path / "heads" / texts.name, "heads", [heads])
    return path


@pytest.mark.parametrize(("by_pandas", "query"), [answers for _, *answers in QUESTIONS], ids=[question for question, *_ in QUESTIONS])
def test_pandas_and_duckdb_answer_alike(run: Path, by_pandas: Callable, query: str) -> None:
    by_duckdb = connected(run).sql(query).df()
    assert len(by_duckdb)
    pd.testing.assert_frame_equal(by_pandas(opened(run)), by_duckdb, check_dtype=False, check_exact=False)


def test_answers_are_the_numbers_of_the_tool(run: Path) -> None:
    tables, found = opened(run), read_run(run)
    lengths = [one.value for one in found.by_depth(length_by_draft_length)]
    assert shorter(tables)["acceptance_length"].item() == pytest.approx(lengths[DRAFT_LENGTH - 1])
    placed = lost(tables)
    assert 1 + np.average(placed["accepted"], weights=placed["rounds"]) == pytest.approx(lengths[-1])
    parts = unsure(tables)
    assert parts["guesses"].tolist() == [34, 34, 34, 33]
    assert np.average(parts["right_share"], weights=parts["guesses"]) == pytest.approx(found.by_depth(forced_accuracy)[0].value)
    assert parts["entropy"].is_monotonic_increasing


def test_tokens_that_end_chains_stand_as_text_and_heads_that_look_at_the_sink_first(run: Path) -> None:
    tables = opened(run)
    rounds = tables["steps"].query("feed == 'forced' and on_walk").groupby(["prompt", "anchor"])["match"].all()
    assert ending(tables).to_dict("records") == [{"id": 5, "token": " right", "chains": int((~rounds.astype(bool)).sum())}]
    assert sink(tables)["head"].tolist() == [3, 2, 1, 0]
    assert sink(tables)["last_depth"].tolist() == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_the_script_prints_every_answer_twice(run: Path) -> None:
    printed = subprocess.run(
        [sys.executable, "examples/traces.py", run], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    ).stdout
    assert [printed.count(word) for word in ("pandas\n", "DuckDB\n", *(question for question, *_ in QUESTIONS))] == [5, 5, *[1] * 5]


def test_a_run_without_pieces_and_without_a_sink_is_answered_too() -> None:
    for folder in sorted((ROOT / "tests" / "traces" / "versions").iterdir()):
        tables, connection = opened(folder), connected(folder)
        for _, by_pandas, query in QUESTIONS:
            assert len(by_pandas(tables)) == len(connection.sql(query).df())
