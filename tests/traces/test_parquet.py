"""Columns and rows of Parquet files, held against Arrow's own reader of datasets and its expressions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from driftcli.traces.parquet import Holding, holding, read_columns
from driftcli.traces.schema import arrow_schema
from driftcli.traces.sums import cells, read_rows
from tests.report.synthetic import DRIFTING, Recipe, write_run


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first cell of the table `steps` of a run."""
    return cells(write_run(tmp_path_factory.mktemp("parquet") / "run", Recipe(DRIFTING)) / "steps", "baseline")[0]


@pytest.mark.parametrize("columns", [arrow_schema("steps").names, ["rms", "prompt"]])
def test_columns_are_read_as_a_dataset_reads_them(steps: Path, columns: Sequence[str]) -> None:
    theirs = pq.read_table(steps, columns=list(columns), schema=arrow_schema("steps"))
    assert read_columns(pq.ParquetFile(steps), columns, arrow_schema("steps")).equals(theirs)


def test_a_column_that_a_file_lacks_is_null_and_one_of_another_type_is_cast(steps: Path, tmp_path: Path) -> None:
    table = pq.ParquetFile(steps).read().drop_columns(["draft_entropy"])
    place = table.schema.get_field_index("feed")
    pq.write_table(table.set_column(place, "feed", table["feed"].cast(pa.string())), older := tmp_path / "older.parquet")
    names = arrow_schema("steps").names
    found = read_columns(pq.ParquetFile(older), names, arrow_schema("steps"))
    assert found.schema.equals(arrow_schema("steps"))
    assert found["draft_entropy"].null_count == len(found) == len(table) > 0
    assert found.equals(pq.read_table(older, columns=names, schema=arrow_schema("steps")))


@pytest.mark.parametrize(
    ("values", "expression"),
    [
        ({"feed": ["forced"]}, pc.field("feed") == "forced"),
        ({"feed": ["forced", "fresh"], "depth": [2]}, pc.field("feed").isin(["forced", "fresh"]) & (pc.field("depth") == 2)),
        ({"on_walk": [True]}, pc.field("on_walk")),
        ({"depth": range(1, 3)}, (pc.field("depth") >= 1) & (pc.field("depth") <= 2)),
        ({"feed": []}, pc.field("feed") == "nobody's"),
    ],
)
def test_rows_that_hold_values_are_those_that_an_expression_admits(steps: Path, values: Holding, expression: pc.Expression) -> None:
    columns = ["prompt", "anchor", "match"]
    ours, theirs = (read_rows(steps, columns, where, "steps").to_pydict() for where in (values, expression))
    assert ours == theirs
    assert len(ours["prompt"]) < pq.ParquetFile(steps).metadata.num_rows


def test_a_null_holds_no_value() -> None:
    rows = pa.table({"name": pa.array(["a", None, "b", "a"]).dictionary_encode(), "number": [1, 2, None, None]})
    assert holding(rows, {"name": ["a", "b"], "number": [1, 2]}).to_pylist() == [{"name": "a", "number": 1}]
