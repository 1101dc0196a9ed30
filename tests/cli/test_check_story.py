"""A gate on new checkpoints of a drafter, from measuring to the exit code: a baseline, a worse drafter, the same again, too few prompts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.test_report import ended
from tests.tiny import prompts, write_noisy_copy


@pytest.fixture(scope="module")
def runs(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one target: `base` and `again` of one drafter, `worse` of one with more noise on its weights, `three` on so many prompts,
    `dead` of a random head.
    """
    folder = tmp_path_factory.mktemp("story")
    asked = [{"id": one.id, "messages": [{"role": "user", "content": one.messages[0].content}]} for one in prompts(12)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    write_noisy_copy(models / "target", folder / "noisier", 0.06)
    told = {
        "base": (models / "lm", "12"),
        "again": (models / "lm", "12"),
        "worse": (folder / "noisier", "12"),
        "three": (models / "lm", "3"),
        "dead": (models / "pre", "12"),
    }
    for name, (drafter, limit) in told.items():
        words = ["--probe", "chain-length", "--depth", "2", "--max-new-tokens", "14", "--threads", "1", "--device", "cpu", "--limit"]
        pair = ["--target", str(models / "target"), "--drafter", str(drafter), "--prompts", str(folder / "prompts.jsonl")]
        assert ended(["diagnose", *pair, *words, limit, "--out", str(folder / name), "--format", "json"]) == 0
    return folder


def against_base(runs: Path, name: str, *words: str) -> int | str | None:
    return ended(["check", str(runs / name), "--baseline", str(runs / "base"), *words])


def test_a_worse_drafter_fails_with_the_number_that_regressed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert against_base(runs, "worse") == 4
    first = " ".join(capsys.readouterr().out.split())
    assert first.startswith("failed: acceptance length: regressed, ")
    assert against_base(runs, "worse", "--format", "json") == 4
    (failed,) = [check for check in json.loads(capsys.readouterr().out)["checks"] if check["status"] == "failed"]
    assert failed["rule"] == "compare:acceptance_length" and failed["high"] < 0


def test_the_same_again_passes(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert against_base(runs, "again", "--strict") == 0
    assert capsys.readouterr().out.startswith("passed: ")


def test_three_prompts_cannot_tell_and_it_is_said_how_many_would(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert against_base(runs, "three") == 5
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("cannot tell: acceptance length: ") and "three has 3 prompts" in shown and "at least 5 more prompts" in shown


def test_a_dead_baseline_is_refused_and_a_dead_drafter_fails(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert ended(["check", str(runs / "base"), "--baseline", str(runs / "dead")]) == 3
    shown = capsys.readouterr()
    assert shown.out == "" and "a dead baseline, its acceptance length 1.0" in shown.err and "within noise of 1" in shown.err
    assert against_base(runs, "dead") == 4


def test_a_baseline_that_was_asked_otherwise_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = shutil.copytree(runs / "again", runs / "other")
    manifest = json.loads((other / "run.json").read_text())
    manifest["request"]["max_new_tokens"] = 15
    (other / "run.json").write_text(json.dumps(manifest))
    capsys.readouterr()
    assert against_base(runs, "other") == 3
    said = "they differ in longest reply in tokens (14 / 15); name a baseline that was measured alike, or compare them all the same with --force"
    assert said in capsys.readouterr().err
    assert against_base(runs, "other", "--force", "--format", "json") == 0
    (forced,) = [check for check in json.loads(capsys.readouterr().out)["checks"] if check["rule"] == "compare:forced"]
    assert forced["status"] == "warned"
    assert forced["reason"] == "compared all the same (--force), though the runs differ in longest reply in tokens (14 / 15)"


def test_a_dead_baseline_is_refused_though_it_is_forced(runs: Path) -> None:
    assert ended(["check", str(runs / "base"), "--baseline", str(runs / "dead"), "--force"]) == 3


def test_inside_a_wide_band_a_worse_drafter_is_equal_and_the_command_line_comes_before_the_policy(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "band.toml").write_text("band = 0.99\n")
    assert against_base(runs, "worse") == 4
    capsys.readouterr()
    for asked in (["--band", "0.99"], ["--policy", str(runs / "band.toml")]):
        assert against_base(runs, "worse", "--format", "json", *asked) == 0
        (length,) = [one for one in json.loads(capsys.readouterr().out)["checks"] if one["rule"] == "compare:acceptance_length"]
        assert length["status"] == "passed" and ": equal, " in length["reason"]
    assert against_base(runs, "worse", "--policy", str(runs / "band.toml"), "--band", "0.02") == 4


def test_a_regression_is_accepted_by_name_until_its_day(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "policy.toml").write_text('[[accepted]]\nrule = "compare:*"\nreason = "half the size"\nuntil = 9999-12-31\n')
    capsys.readouterr()
    assert against_base(runs, "worse", "--policy", str(runs / "policy.toml")) == 0
    assert "accepted: half the size (until 9999-12-31)" in " ".join(capsys.readouterr().out.split())
    (runs / "policy.toml").write_text('[[accepted]]\nrule = "compare:*"\nreason = "half the size"\nuntil = 2026-01-31\n')
    assert against_base(runs, "worse", "--policy", str(runs / "policy.toml")) == 4


def test_another_number_fails_where_a_policy_names_it(runs: Path) -> None:
    (runs / "named.toml").write_text('[[rules]]\nrule = "compare:acceptance_length"\nlevel = "off"\n')
    assert against_base(runs, "worse", "--policy", str(runs / "named.toml")) == 0
    (runs / "named.toml").write_text('[[rules]]\nrule = "compare:*"\nlevel = "error"\n')
    assert against_base(runs, "worse", "--policy", str(runs / "named.toml")) == 4
