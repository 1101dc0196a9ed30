from __future__ import annotations

import itertools
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driftcli.cli.main import main
from driftcli.errors import RunError
from driftcli.traces.layout import refuse_foreign
from driftcli.traces.manifest import read_manifest
from driftcli.traces.reader import read_run
from tests.report.synthetic import DRIFTING, Life, Recipe, write_run

WRONG = (None, True, -1, 0, 1 << 80, 1.5, "", "x", "../../x", [], [[]], [None], {}, {"x": 1}, "\x1b[31m", 10**400, "2026-13-45T99:00:00")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = Recipe(DRIFTING, extra={"window-64": ("windows", Life())})
    return write_run(tmp_path_factory.mktemp("whole") / "r", recipe)


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "r"))


def places(content: object, before: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a JSON value."""
    yield before
    for key, value in content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ():
        yield from places(value, (*before, key))


def changed(content: object, place: tuple[str | int, ...], value: object) -> object:
    """The content with another value at a place; `...` takes it out."""
    if not place:
        return value
    copy = content.copy()  # type: ignore[attr-defined]
    if value is ... and len(place) == 1:
        del copy[place[0]]
    else:
        copy[place[0]] = changed(copy[place[0]], place[1:], value)
    return copy


def reported(run: Path, format: str, capsys: pytest.CaptureFixture[str]) -> int | str | None:
    """The exit code of a report, which is a report or one sentence."""
    with pytest.raises(SystemExit) as ended:
        main(["report", str(run), "--format", format])
    out, err = capsys.readouterr()
    left_out = err.count("is left out: code that a run folder names")  # of probes that are somebody else's
    assert (ended.value.code, bool(out), err.count("\n") - left_out) in ((0, True, 0), (2, False, 1), (3, False, 1))
    assert err.replace("\n", "").isprintable()
    return ended.value.code


@pytest.mark.slow
def test_whatever_stands_at_any_place_of_a_manifest_the_report_is_whole_or_one_sentence(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, drawn, formats = json.loads((run / "run.json").read_text()), random.Random(0), itertools.cycle(("terminal", "json"))
    for place in places(content):
        for value in drawn.sample([..., *WRONG], 2) if place else WRONG:
            (run / "run.json").write_text(json.dumps(changed(content, place, value)))
            try:
                read_manifest(run)
            except RunError:
                continue
            reported(run, next(formats), capsys)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "null", "[]", "{}", '{"schema": 4}', "\0" * 100, "[" * 100_000, '{"a":' * 100_000, "NaN", '{"schema": NaN}', "9" * 5000,
        '{"schema": 1e999}', '{"schema": "4"}', '{"schema": null, "complete": true}', "\ud800",
    ],
)  # fmt: skip
def test_a_manifest_that_is_none_is_one_sentence(run: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "run.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert reported(run, "terminal", capsys) == 3


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_in_place_of_the_manifest_is_one_sentence(
    make: Callable[[Path], None], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "run.json").unlink()
    make(run / "run.json")
    with pytest.raises(RunError, match="no plain file"):
        refuse_foreign(run)
    assert reported(run, "terminal", capsys) == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [("started", "yesterday"), ("started", "2026-01-02T03:04:05"), ("finished", 5), ("finished", "9999-99-99")],
)
def test_garbage_times_are_one_sentence(run: Path, key: str, value: object, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**content, key: value}))
    assert reported(run, "terminal", capsys) == 3
    with pytest.raises(RunError, match=f"{key}: saw"):
        read_run(run)


def test_a_whole_manifest_is_read_as_it_was_written(whole: Path) -> None:
    found = read_manifest(whole)
    assert found.complete and found.spec.depth == 8
    assert found.pair.record["capture"].value == (2, 8, 13)
    assert found.content["conditions"] == found.content["request"]["conditions"]  # type: ignore[index,call-overload]


@pytest.mark.parametrize("damage", ["cut", "empty", "a folder", "gone", "copied", "other cell", "other table"])
def test_a_damaged_cell_is_named_in_one_sentence(run: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = sorted((run / "steps").glob("baseline-*"))[:2]
    content = one.read_bytes()
    one.unlink()
    if damage == "cut":
        one.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        one.touch()
    elif damage == "a folder":
        one.mkdir()
    elif damage == "copied":
        one.write_bytes(content)
        (run / "steps" / "baseline-0123456789ab.parquet").write_bytes(content)
    elif damage == "other cell":
        one.write_bytes(other.read_bytes())
    elif damage == "other table":
        one.write_bytes((run / "trajectories" / one.name).read_bytes())
    assert reported(run, "terminal", capsys) == 3
