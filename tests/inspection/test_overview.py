from __future__ import annotations

from pathlib import Path
from typing import get_args

from driftcli.inspection.overview import ABOUT, Overview, schema_markdown
from driftcli.report.choices import TableName
from driftcli.report.console import plain
from driftcli.traces.reader import read_run
from driftcli.traces.schema import COLUMNS
from tests.report.synthetic import Recipe, write_run

PAGE = Path(__file__).parents[2] / "driftcli" / "traces" / "SCHEMA.md"


def test_the_committed_page_of_the_schema_is_that_of_the_columns() -> None:
    assert PAGE.read_text(encoding="utf-8") == schema_markdown() + "\n", "driftcli inspect --schema markdown > driftcli/traces/SCHEMA.md"


def test_every_column_stands_on_it_with_unit_and_meaning() -> None:
    rows = [line for line in schema_markdown().splitlines() if line.startswith("| `")]
    assert len(rows) == sum(map(len, COLUMNS.values()))
    assert all(line.count(" | ") == 3 for line in rows)
    assert all(column.meaning in schema_markdown() for columns in COLUMNS.values() for column in columns)


def test_tables_are_those_that_the_command_offers_and_each_is_explained() -> None:
    assert get_args(TableName) == tuple(COLUMNS) == tuple(ABOUT)


def test_rows_and_files_of_each_table_are_counted(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "r", Recipe(prompts=[f"p{number}" for number in range(8)], anchors=5)))
    shown = " ".join(plain(Overview(run)).split())
    assert f"steps {8 * 5 * 8 * 3:,} rows in 2 files" in shown
    assert "trajectories 8 rows in 2 files" in shown
    assert "pieces 3 rows in 1 file:" in shown
    assert "heads 0 rows" in shown
    assert shown.endswith(f"driftcli inspect {run.path} --table steps a reply: driftcli inspect {run.path} --prompt p0")
