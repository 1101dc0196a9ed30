from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from driftcli.cli.main import main
from tests.zoo.build import cases, write


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


def test_a_family_that_is_not_measured_is_one_sentence_and_all_its_tensors_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(next(case for case in cases() if case.number == "72"), tmp_path)
    assert ended(["scan", "--drafter", str(folder)]) == 3
    seen = capsys.readouterr()
    assert seen.out == "" and seen.err.count("\n") == 1 and "holds a Domino drafter" in seen.err
    assert ended(["scan", "--drafter", str(folder), "--format", "json"]) == 3
    seen = capsys.readouterr()
    told = json.loads(seen.out)
    assert (told["family"], told["tensors"]["layers.*.self_attn.q_proj.weight"]) == ("Domino", 5)
    assert told["refused"] in seen.err


def test_a_target_that_carries_an_mtp_head_says_so(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = shutil.copytree(models / "target", tmp_path / "target")
    (target / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"mtp.fc.weight": "a", "lm_head.weight": "b"}}))
    assert not ended(["scan", "--drafter", str(models / "post"), "--target", str(target)])
    assert "- target: the target carries an MTP head (1 tensor, such as mtp.fc.weight)" in capsys.readouterr().out
