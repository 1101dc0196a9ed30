from __future__ import annotations

import csv
import json
import sys
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pytest

from driftcli.cli.main import main
from tests.report.synthetic import Life, Recipe, write_run

RECIPE = Recipe(Life(lost=(0, 0.3, 0.5)), prompts=("=1+1", "b,\x1b[2J"), anchors=6)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("inspect") / "r", RECIPE)


def ended(*arguments: object) -> int | str | None:
    with pytest.raises(SystemExit) as exit:
        main(["inspect", *map(str, arguments)])
    return exit.value.code


def test_rows_of_a_table_are_shown_as_many_as_asked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        ended(run, "--table", "steps", "--where", "depth == 2 and feed == 'fresh'", "--columns", "prompt,anchor,match", "--head", "3") == 0
    )
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()[:2]] == [
        ["prompt", "anchor", "match"],
        [out.splitlines()[1].split()[0], "10", *out.splitlines()[1].split()[2:]],
    ]
    assert len(out.splitlines()) == 4
    assert "\x1b" not in out
    assert "the first 3 rows" in err


def test_exports_of_each_kind_hold_the_same_rows(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [run, "--table", "steps", "--where", "depth == 3", "--columns", "prompt,anchor,rms", "--export"]
    assert ended(*asked, "jsonl") == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == 2 * 6 * 3
    assert err == "steps: 36 rows as jsonl\n"
    assert ended(*asked, "csv", "--out", tmp_path / "a.csv") == 0
    by_csv = list(csv.DictReader(StringIO((tmp_path / "a.csv").read_text())))
    assert [(row["prompt"], int(row["anchor"]), float(row["rms"])) for row in by_csv] == [tuple(row.values()) for row in rows]
    assert ended(*asked, "arrow", "--out", tmp_path / "a.arrow") == 0
    with (tmp_path / "a.arrow").open("rb") as file:
        assert pa.ipc.open_file(file).read_all().to_pylist() == rows


def test_lists_and_bytes_are_exported_as_text(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended(run, "--table", "trajectories", "--columns", "prompt,ids", "--head", 1, "--export", "csv")
    ended(run, "--table", "pieces", "--export", "jsonl", "--head", 2)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "prompt,ids"
    assert json.loads(next(csv.reader([out[1]]))[1]) == [5] * 19
    assert json.loads(out[3]) == {"id": 5, "bytes": " right", "special": False}


def test_a_file_that_is_there_is_kept_unless_forced(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "mine.csv"
    kept.write_text("mine")
    assert ended(run, "--table", "pieces", "--export", "csv", "--out", kept) == 2
    assert kept.read_text() == "mine"
    assert "is there already" in capsys.readouterr().err
    assert ended(run, "--table", "pieces", "--export", "csv", "--out", kept, "--force") == 0
    assert kept.read_text().startswith("id,bytes,special\n1,<user>,True\n")


def test_a_query_is_answered_and_without_duckdb_says_how_to_get_it(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "select depth, count(*) as n from steps where feed = 'forced' group by depth order by depth"
    assert ended(run, "--sql", query) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["depth", "n"], ["1", "12"], ["2", "12"], ["3", "12"]]
    monkeypatch.delitem(sys.modules, "driftcli.inspection.sql", raising=False)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert ended(run, "--sql", query) == 3
    assert "pip install 'driftcli[sql]'" in capsys.readouterr().err


def test_a_reply_and_a_chain_are_shown_as_text(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(run, "--prompt", "=1+1") == 0
    assert "{+ right" in capsys.readouterr().out
    assert ended(run, "--prompt", "=1+1", "--anchor", 12) == 0
    assert "chain from anchor 12" in capsys.readouterr().out
    assert ended(run, "--prompt", "=1+1", "--anchor", 99) == 3
    assert "expected 10 to 15" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--where", "depth == 1"], "--where goes with --table"),
        (["--table", "steps", "--sql", "select 1"], "--table and --sql: expected one of them"),
        (["--anchor", "3"], "--anchor goes with --prompt"),
        (["--export", "csv"], "--export goes with --table or --sql"),
        (["--table", "steps", "--out", "a.csv"], "--out goes with --export"),
        (["--table", "steps", "--columns", "dept"], "did you mean depth"),
    ],
)
def test_options_that_say_nothing_together_are_refused(
    run: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(run, *options) == 2
    assert said in capsys.readouterr().err


def test_the_schema_is_printed_without_a_run_and_everything_else_needs_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--schema", "markdown") == 0
    assert capsys.readouterr().out.startswith("# The tables of a run\n")
    assert ended() == 2
    assert "driftcli inspect RUN" in capsys.readouterr().err
