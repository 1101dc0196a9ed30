from __future__ import annotations

from pathlib import Path

import pytest

from driftcli.cli.folder import free_folder, run_folder
from driftcli.errors import DriftError, UsageError


def test_default_folders_never_collide_and_are_named_for_the_drafter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = {free_folder(Path("runs"), "20260102-030405-head") for _ in range(5)}
    assert sorted(path.name for path in made) == ["20260102-030405-head", *(f"20260102-030405-head-{n}" for n in range(2, 6))]
    for drafter, end in (("org/head@main", "-head-main"), ("bundled:pre-norm", "-bundled-pre-norm"), ("/x/" + "y" * 300, "y" * 80)):
        with run_folder(None, drafter) as one, run_folder(None, drafter) as other:
            assert one != other and one.name.endswith(end)
            assert one.is_dir() and other.is_dir()


def test_a_default_folder_that_nothing_was_written_to_is_gone_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError), run_folder(None, "head"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["s3://bucket/r", "gs://bucket", "file:///tmp/r", "file:r", "hdfs://host/r", "~nobody-of-this-name/r"])
def test_what_is_no_plain_path_is_refused_and_nothing_is_made(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--out "), run_folder(Path(name), "head"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_300_characters_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("r" * 300, "deep/" + "r" * 300, "r/" * 3000):
        with pytest.raises(DriftError), run_folder(Path(name), "head"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_home_is_the_persons_own_and_a_colon_is_a_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with run_folder(Path("~/r"), "head") as path:
        assert path == tmp_path / "home" / "r"
    with run_folder(Path("a:b"), "head") as path:
        assert (tmp_path / "a:b").is_dir() and path == Path("a:b")
