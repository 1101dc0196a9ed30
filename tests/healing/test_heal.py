"""`driftcli heal` on the bundled pair: laws, refusals, files mended without training, and a cure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from driftcli.cli.healing import Healed, _sentence
from driftcli.errors import RunError
from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.healing.gate import RunText, same_guesses
from driftcli.healing.judged import Judged
from driftcli.loading.pair import load_pair
from driftcli.sources.files import resolve
from driftcli.target.language_model import LanguageModel
from driftcli.traces.reader import read_run
from driftcli.traces.sums import read_table
from driftcli.training.conversations import Conversation, write_conversations
from tests.benchmarks.planted_faults import FAULTS, planted
from tests.healing.command import Ended, diagnosed, driftcli

PROMPTS, DEPTH = 16, 4  # the fewest prompts of which half can judge
ASKED = ("--limit", str(PROMPTS), "--depth", str(DEPTH), "--max-new-tokens", "64")


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled pre-norm head, diagnosed."""
    out = tmp_path_factory.mktemp("heal") / "before"
    return diagnosed(out, "--drafter", "bundled:pre-norm", "--probe", "controls", *ASKED)


@pytest.fixture(scope="module")
def replies(before: Path) -> Path:
    """What the target wrote in that run."""
    rows = read_table(before / "trajectories", ["ids", "prompt_length"], "baseline").to_pylist()
    path = before.parent / "replies.jsonl"
    write_conversations(path, [Conversation(row["ids"], [(row["prompt_length"], len(row["ids"]))]) for row in rows])
    return path


@pytest.fixture
def healed(before: Path, replies: Path, tmp_path: Path) -> Callable[..., Ended]:
    def heal(*words: object) -> Ended:
        usual = ("--run", before, "--replies", replies, "--out", tmp_path / "healed", "--budget", "1s", "--tokens", 512)
        return driftcli("heal", *usual, *words)

    return heal


def test_a_rate_of_zero_changes_nothing_and_is_no_cure(healed: Callable[..., Ended], tmp_path: Path) -> None:
    ended = healed("--treatment", "unroll", "--rate", 0)
    assert ended.exit_code == 4, ended.stdout + ended.stderr
    assert "not shown to be healed by unroll" in ended.stdout
    tried = load_file(tmp_path / "healed" / "tried" / "model.safetensors")
    stored = load_file(resolve("bundled:pre-norm").folder / "model.safetensors")
    assert tried.keys() == stored.keys()
    assert all(torch.equal(tried[name], stored[name]) for name in stored)
    assert not (tmp_path / "healed" / "config.json").exists()
    assert "keep the original" in ended.stdout + ended.stderr


def test_a_retrofit_that_is_not_trained_leaves_the_first_guesses(healed: Callable[..., Ended], tmp_path: Path) -> None:
    ended = healed("--treatment", "norm-output", "--rate", 0, "--format", "json")
    told = json.loads(ended.stdout)
    first = next(one for one in told["comparison"]["changes"] if one["number"] == "accuracy_1")
    assert (told["first_guesses_unchanged"], told["steps"]) == (1, 0)
    assert told["conversations"] < PROMPTS, "those of the run are enough for the size of its state"
    assert abs(first["difference"]["value"]) < 0.01  # bfloat16, in which the head is stored, breaks some ties
    assert ended.exit_code == (0 if told["cured"] else 4)
    where = tmp_path / "healed" if told["cured"] else tmp_path / "healed" / "tried"
    assert json.loads((where / "config.json").read_text())["norm_output"] is True


def test_an_attempt_goes_on_where_it_ended(healed: Callable[..., Ended], tmp_path: Path) -> None:
    whole = healed("--treatment", "unroll")
    where = tmp_path / "healed" if whole.exit_code == 0 else tmp_path / "healed" / "tried"
    kept = load_file(where / "model.safetensors")
    shutil.rmtree(tmp_path / "healed" / "tried", ignore_errors=True)
    for name in ("config.json", "model.safetensors", "README.md"):
        (tmp_path / "healed" / name).unlink(missing_ok=True)
    again = healed("--treatment", "unroll")
    assert "resumed at step" in again.stderr
    found = load_file(where / "model.safetensors")
    assert all(torch.equal(found[name], kept[name]) for name in kept)
    assert healed("--treatment", "unroll", "--rate", 0.5).exit_code == (3 if again.exit_code == 4 else 2)


@pytest.mark.parametrize(
    ("best", "said"), [(0, "healed by unroll, trained in vain (none of 40 steps guessed better"), (20, "healed by unroll: longer")]
)
def test_training_that_gave_nothing_is_not_said_to_have_healed(best: int, said: str) -> None:
    judged = Judged(None, cured=True, why="longer")  # type: ignore[arg-type]
    assert _sentence(Healed(Path("out"), ("unroll",), {"steps": 40, "best_step": best}, judged)).startswith(said)


def test_another_head_than_the_runs_is_refused(healed: Callable[..., Ended]) -> None:
    ended = healed("--drafter", "bundled:post-norm")
    assert ended.exit_code == 3
    assert "was measured with a drafter of other files than bundled:post-norm has today; diagnose this pair first" in ended.stderr


def test_an_engine_that_is_not_here_is_asked_for_in_vain(healed: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftcli.cli.engine.find_spec", lambda _: None)
    ended = healed("--engine", "vllm")
    assert ended.exit_code == 2
    assert "--engine vllm: vllm is not installed here; install driftcli[vllm]" in ended.stderr
    ended = healed("--engine-args", '{"max_model_len": 64}')
    assert ended.exit_code == 2
    assert "they are vLLM's, and transformers runs the target" in ended.stderr


def test_replies_of_an_attempt_are_by_one_engine(before: Path, tmp_path: Path) -> None:
    (tmp_path / "healed" / "work").mkdir(parents=True)
    (tmp_path / "healed" / "work" / "replies_by").write_text("vllm")
    ended = driftcli("heal", "--run", before, "--out", tmp_path / "healed", "--budget", "1s", "--treatment", "unroll")
    assert ended.exit_code == 2
    assert f"--engine transformers: {tmp_path / 'healed'} holds replies by vllm; ask for that, or name another --out" in ended.stderr
    assert [path.name for path in (tmp_path / "healed" / "work").iterdir()] == ["replies_by"], "nothing was written"


def test_a_run_that_vllm_made_is_judged_by_vllm_or_not_begun(before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftcli.cli.healing.find_spec", lambda _: None)
    run = shutil.copytree(before, tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "asked": {**record["asked"], "engine": {"name": "vllm", "args": {}}}}))
    ended = driftcli("heal", "--run", run, "--out", tmp_path / "healed")
    assert ended.exit_code == 2
    assert "its target ran in vLLM, by which the healed head is judged too, and vllm is not installed here" in ended.stderr
    assert not (tmp_path / "healed").exists()


def test_a_drafter_that_nothing_here_trains_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    asked = ("--limit", PROMPTS, "--depth", 1, "--max-new-tokens", 3)
    assert driftcli("diagnose", "--drafter", "bundled:dflash", "--probe", "controls", *asked, "--out", run).exit_code == 0
    ended = driftcli("heal", "--run", run, "--out", tmp_path / "healed")
    assert ended.exit_code == 2
    assert "bundled:dflash: a block drafter, expected an EAGLE-3 head, or an MTP head of one module" in ended.stderr


def test_a_step_that_does_not_draft_the_runs_chains_is_refused(before: Path) -> None:
    pair, run = load_pair("bundled:target", "bundled:pre-norm", torch.device("cpu"), "float32"), read_run(before)
    assert isinstance(pair.drafter, Eagle3)
    assert isinstance(pair.target, LanguageModel)
    rows = read_table(before / "trajectories", ["prompt", "turn", "ids", "prompt_length"], "baseline").to_pylist()[:4]
    texts = [RunText(row["prompt"], row["turn"], row["ids"], row["prompt_length"]) for row in rows]
    assert same_guesses(pair.drafter, pair.target, run, texts) == 1
    other = pair.drafter.wired(next(one for one in pair.card.alternatives if one.feedback == "normed"))
    with pytest.raises(RunError, match=r"training would begin from another head than was measured; diagnose this head again$"):
        same_guesses(other, pair.target, run, texts)
    served = replace(run, manifest={**run.manifest, "asked": {"engine": {"name": "vllm", "args": {}}}})
    with pytest.raises(RunError, match="diagnose this head again with --engine transformers"):
        same_guesses(other, pair.target, served, texts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["layer ids late by one", "fc columns in another order", "d2t absolute", "RoPE base 100", "feedback flag flipped"]
)
def test_a_planted_fault_is_mended_in_the_files_without_training(name: str, tmp_path: Path) -> None:
    fault = next(one for one in FAULTS if one.name == name)
    head, run = planted(fault, "bundled:post-norm", "bundled:target", tmp_path / "planted"), tmp_path / "run"
    words = ("--target", "bundled:target", "--drafter", head, "--probe", "wiring", "--limit", 32, "--depth", DEPTH, "--max-new-tokens", 64)
    assert driftcli("diagnose", *words, "--out", run).exit_code == 0
    ended = driftcli("heal", "--run", run, "--out", tmp_path / "healed")
    assert ended.exit_code == 0, ended.stdout + ended.stderr
    assert "healed by mending its files" in ended.stdout + ended.stderr
    mended, sound = (
        load_pair("bundled:target", one, torch.device("cpu"), "float32").drafter for one in (str(tmp_path / "healed"), "bundled:post-norm")
    )
    assert isinstance(mended, Eagle3)
    assert isinstance(sound, Eagle3)
    assert (mended.boundaries, mended.feedback) == (sound.boundaries, sound.feedback)
    assert mended.vocabulary.to_target.tolist() == sound.vocabulary.to_target.tolist()
