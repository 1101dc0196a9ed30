"""Treatments against what they are for, from the diagnosis to the head that is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.healing.split import own_replies, split
from driftcli.loading.pair import load_pair
from driftcli.texts.prompts import bundled_prompts
from driftcli.traces.reader import read_run
from driftcli.traces.sums import read_table
from driftcli.training.conversations import Conversation, write_conversations
from tests.benchmarks.planted_illnesses import with_tokens_said_most
from tests.healing.command import diagnosed, driftcli

ASKED = ("--limit", 20, "--depth", 3, "--max-new-tokens", 32, "--no-quick")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled post-norm head behind prompts of two lengths."""
    out = tmp_path_factory.mktemp("planted") / "run"
    return diagnosed(out, "--drafter", "bundled:post-norm", "--probe", "context-length", "--lengths", "256,512", *ASKED)


def test_texts_of_a_probe_are_learned_from_besides_and_none_of_the_prompts_that_judge(run: Path) -> None:
    found = read_run(run)
    sides = split([prompt for prompt in bundled_prompts() if prompt.id in set(found.prompts)], found.spec.seed)
    short, long = own_replies(found, sides.taught), own_replies(found, sides.taught, ("context-length",))
    assert long[: len(short)] == short
    assert len(long) > len(short)
    assert max(len(talk.ids) for talk in long) > 400 > max(len(talk.ids) for talk in short)
    names = [name for _, name in found.conditions] + [found.reference]
    rows = [row for name in names for row in read_table(run / "trajectories", ["prompt", "ids"], name).to_pylist()]
    judging = {tuple(row["ids"]) for row in rows if row["prompt"] in {prompt.id for prompt in sides.judging}}
    assert judging.isdisjoint(tuple(talk.ids) for talk in long)


@pytest.mark.slow
def test_a_small_vocabulary_is_found_and_grows_by_what_the_target_says(run: Path, tmp_path: Path) -> None:
    rows = read_table(run / "trajectories", ["ids", "prompt_length"], "baseline").to_pylist()
    talks = [Conversation(row["ids"], [(row["prompt_length"], len(row["ids"]))]) for row in rows]
    write_conversations(tmp_path / "replies.jsonl", talks)
    head = with_tokens_said_most(100, tmp_path / "replies.jsonl", tmp_path / "planted")
    before = ("--target", "bundled:target", "--drafter", head, "--probe", "vocabulary", *ASKED, "--out", tmp_path / "before")
    assert driftcli("diagnose", *before).exit_code == 0
    assert "VOCAB-COVERAGE" in [one["code"] for one in json.loads((tmp_path / "before" / "findings.json").read_text())]
    ended = driftcli(
        "heal",
        "--run",
        tmp_path / "before",
        "--replies",
        tmp_path / "replies.jsonl",
        "--out",
        tmp_path / "healed",
        "--budget",
        "1s",
        "--format",
        "json",
    )
    told = json.loads(ended.stdout)
    assert told["treatments"][0] == "vocabulary"
    assert ended.exit_code == 0, told["why"]
    old, new = (load_pair("bundled:target", name, torch.device("cpu"), "float32").drafter for name in (head, str(tmp_path / "healed")))
    assert isinstance(old, Eagle3)
    assert isinstance(new, Eagle3)
    assert set(old.vocabulary.to_target.tolist()) < set(new.vocabulary.to_target.tolist())
    assert len(new.vocabulary.to_target) == len(old.vocabulary.to_target) + told["draft_tokens_added"]


def test_a_treatment_without_texts_to_learn_from_is_refused(run: Path, tmp_path: Path) -> None:
    ended = driftcli("heal", "--run", run, "--out", tmp_path / "healed", "--treatment", "templates", "--budget", "1s")
    assert ended.exit_code == 2
    assert "--treatment templates: the run has no texts of the template or system-prompt probe to learn from" in ended.stderr
