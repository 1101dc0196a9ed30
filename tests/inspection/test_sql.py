"""SQL sees a run's tables and nothing else: hostile queries are refused, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from driftcli.errors import UsageError
from driftcli.inspection.sql import answered
from driftcli.traces.reader import read_run
from driftcli.traces.schema import COLUMNS
from tests.report.synthetic import Recipe, write_run

VERSIONS = Path(__file__).parents[1] / "traces" / "versions"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("sql") / "r:un", Recipe(prompts=("a", "b"), anchors=8, extra={"other": ("p", Recipe().life)}))


def rows(run: Path, query: str) -> list[dict]:
    with answered(run, query) as (_, parts):
        return [row for part in parts for row in part.to_pylist()]


@pytest.mark.parametrize("folder", [None, *sorted(VERSIONS.iterdir())], ids=str)
def test_every_table_of_a_run_of_any_version_is_there_under_its_name(run: Path, folder: Path | None) -> None:
    for table, columns in COLUMNS.items():
        found = rows(folder or run, f"describe {table}")
        assert [row["column_name"] for row in found] == [column.name for column in columns]
    (counted,) = rows(
        folder or run,
        "select count(*) n, count(distinct prompt) p from steps where feed = 'forced' and depth = 1 and condition = 'baseline'",
    )
    assert counted == {"n": sum(read_run(folder or run).trajectories["anchors"].to_pylist()), "p": 2}


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_csv('{file}')", "select * from read_text('{file}')", "select * from read_blob('{file}')", "from '{file}'",
        "select * from read_json('{file}')", "select * from read_parquet('https://example.com/a.parquet')", "select * from glob('{folder}/*')",
        "select * from sniff_csv('{file}')", "select * from parquet_metadata('{file}')", "select * from sqlite_scan('{file}', 'a')",
        "copy steps to '{folder}/out.csv'", "copy (select 1) to '{folder}/out.parquet'", "export database '{folder}/out'",
        "attach '{folder}/out.db'", "attach '{folder}/out.db' as o (type sqlite)", "install httpfs", "load httpfs", "force install spatial",
        "set enable_external_access = true", "reset enable_external_access", "set lock_configuration = false", "set threads = 8",
        "pragma enable_profiling", "set global autoload_known_extensions = true", "create table t as select 1", "drop view steps",
        "insert into steps select * from steps", "select 1; copy steps to '{folder}/out.csv'", "call pragma_version()", "checkpoint",
        "select getenv('HOME')", "from query('copy steps to ''{folder}/out.csv''')", "select * from run", "select * from duckdb_secrets()",
        "select", "", ";", "select * from nothing", "prepare q as select 1", "import database '{folder}'",
    ],
)  # fmt: skip
def test_what_reaches_beyond_the_tables_is_refused_and_leaves_nothing(run: Path, tmp_path: Path, query: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nhunter2\n")
    with pytest.raises(UsageError) as refused:
        rows(run, query.format(file=secret, folder=tmp_path))
    assert "hunter2" not in str(refused.value)
    assert list(tmp_path.iterdir()) == [secret]


def test_a_result_without_end_is_read_only_as_far_as_it_is_asked_for(run: Path) -> None:
    with answered(run, "select range r from range(1000000000000)") as (_, parts):
        assert next(parts)["r"][:3].to_pylist() == [0, 1, 2]


def test_damage_is_told_as_such(tmp_path: Path) -> None:
    path = write_run(tmp_path / "r", Recipe(prompts=("a",), anchors=4))
    file = next((path / "steps").iterdir())
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UsageError, match="--sql"):
        rows(path, "select * from steps")
