from __future__ import annotations

from pathlib import Path

import pytest

from driftcli.errors import RunError
from driftcli.traces.layout import ENGINE_FOLDER, begun_here, refuse_foreign, remove_leftovers, written_aside
from driftcli.traces.schema import TABLES
from tests.report.synthetic import write_run


def test_what_cannot_be_written_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("old")
    with pytest.raises(OSError, match="full"), written_aside(tmp_path / "run.json") as aside:
        aside.write_text("half")
        raise OSError("full")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("run.json", "old")]


def test_two_writers_write_aside_under_names_of_their_own(tmp_path: Path) -> None:
    with written_aside(tmp_path / "run.json") as one, written_aside(tmp_path / "run.json") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("run.json", "one")]


@pytest.mark.parametrize("name", ["run.tmp", "run.json.0123abcd.tmp", "costs.json", "run.lock"])
def test_a_folder_with_only_what_a_killed_run_leaves_is_begun_here(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert begun_here(tmp_path)
    refuse_foreign(tmp_path)


@pytest.mark.parametrize("half", ["", '{\n "schema": 4,\n "comp', "\0" * 200])
def test_a_half_written_manifest_is_known_for_ours(half: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(half)
    (tmp_path / "notes.md").write_text("mine")
    refuse_foreign(tmp_path)


def test_a_manifest_of_anything_is_known_for_ours_beside_the_tables_alone(tmp_path: Path) -> None:
    write_run(tmp_path / "r")
    (tmp_path / "r" / "run.json").write_text("[" * 100_000)
    refuse_foreign(tmp_path / "r")
    for name in TABLES[:-1]:
        (tmp_path / "other" / name).mkdir(parents=True)
    (tmp_path / "other" / "run.json").write_text('{"name": "a run of another tool"}')
    with pytest.raises(RunError, match="no driftcli run"):
        refuse_foreign(tmp_path / "other")


@pytest.mark.parametrize("names", [["thesis.txt"], ["run.tmp", "thesis.txt"], ["steps"], ["my.tmp"]])
def test_somebody_elses_files_are_no_run(names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match="no driftcli run"):
        refuse_foreign(tmp_path)


def test_leftovers_go_and_nothing_else_does(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r")
    cell = next((run / "steps").iterdir()).name
    ours = [run / "run.tmp", run / "run.json.0123abcd.tmp", run / "steps" / f"{cell}.0123abcd.tmp", run / "steps" / f"{cell[:-8]}.tmp"]
    theirs = [run / "my.tmp", run / "steps" / "my.tmp", run / "steps" / "my.csv", run / "runs.tmp"]
    before = set(run.rglob("*"))
    for path in (*ours, *theirs):
        path.touch()
    remove_leftovers(run)
    assert set(run.rglob("*")) == before | set(theirs)


def test_what_an_engine_had_handed_over_when_it_was_killed_goes_and_somebody_elses_files_stay(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r")
    handed = run / ENGINE_FOLDER
    handed.mkdir()
    (handed / "0-1a2b3c.safetensors").write_bytes(b"half of a tensor")
    (handed / "mine.txt").write_text("mine")
    remove_leftovers(run)
    assert [path.name for path in handed.iterdir()] == ["mine.txt"]
    (handed / "mine.txt").unlink()
    remove_leftovers(run)
    assert not handed.exists()


def test_a_folder_in_which_an_engine_alone_has_left_something_was_begun_here(tmp_path: Path) -> None:
    (tmp_path / ENGINE_FOLDER).mkdir()
    (tmp_path / ENGINE_FOLDER / "0.safetensors").touch()
    assert begun_here(tmp_path)
