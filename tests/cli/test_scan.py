from __future__ import annotations

import json
from pathlib import Path

import pytest

from driftcli.cli.main import main


def ended(arguments: list[str]) -> int | str | None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    return exit.value.code


def test_a_scan_is_printed_and_ends_with_0(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not ended(["scan", "--drafter", str(models / "post"), "--target", str(models / "target")])
    assert "EAGLE-3, SafeAILab layout" in capsys.readouterr().out
    assert not ended(["scan", "--drafter", str(models / "post"), "--format", "json"])
    assert json.loads(capsys.readouterr().out)["record"]["feedback"]["value"] == "normed"


def test_what_cannot_be_scanned_is_refused_in_one_sentence(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["scan", "--drafter", str(tmp_path)]) == 3
    seen = capsys.readouterr()
    assert seen.out == "" and seen.err.count("\n") == 1 and "no config.json" in seen.err
    assert ended(["scan", "--drafter", str(models / "post"), "--target", str(models / "post")]) == 3
    assert ended(["scan"]) == 2
