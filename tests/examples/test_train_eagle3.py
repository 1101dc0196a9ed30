from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from examples import train_eagle3


def train(models: Path, out: Path, **changes: object) -> None:
    settings = {
        "target": str(models / "target"), "norm": "post", "out": out, "cache": models / "streams", "replies": models / "replies.jsonl", "steps": 200,
        "tokens": 512, "draft_vocabulary_size": 50, "device": "cpu", "capture_dtype": "float32", "unroll": 2,
    }  # fmt: skip
    train_eagle3.main(**{**settings, **changes})  # type: ignore[arg-type]


def test_a_training_run_that_was_stopped_ends_in_the_same_head(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(trained, tmp_path / "whole")
    save = train_eagle3.Run.save

    def save_and_stop(run: train_eagle3.Run) -> None:
        save(run)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_eagle3.Run, "save", save_and_stop)
        train(trained, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    train(trained, tmp_path / "stopped")
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert whole.keys() == resumed.keys()
    assert all(whole[name].equal(resumed[name]) for name in whole)


def test_training_lowers_the_held_out_loss(trained: Path) -> None:
    for norm in ("pre", "post"):
        with (trained / f"trained-{norm}" / "loss.csv").open() as lines:
            rows = list(csv.DictReader(lines))
        assert [row["step"] for row in rows] == ["100", "150"]
        assert float(rows[-1]["held_out_agreement_1"]) > 0.1


def test_the_target_writes_its_own_replies_inside_its_template(models: Path, tmp_path: Path) -> None:
    train(models, tmp_path / "head", cache=tmp_path / "cache", replies=tmp_path / "own.jsonl", write=64, reply_tokens=12, steps=1)
    rows = [json.loads(line) for line in (tmp_path / "own.jsonl").read_text().splitlines()]
    assert len(rows) == 64
    for row in rows:
        assert row["ids"][:2] == [0, 2]  # <s> and the user's role
        assert row["ids"][row["prompt_length"] - 1] == 3  # the target's role comes last
        assert 1 <= len(row["ids"]) - row["prompt_length"] <= 12
