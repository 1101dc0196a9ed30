from __future__ import annotations

import json
from pathlib import Path

import pytest

from driftcli.cli.main import main
from driftcli.report.console import plain
from driftcli.report.costs import render
from driftcli.statistics.costs import Costs, RoundCosts, StepCosts, TimedIn
from driftcli.statistics.costs_file import read_costs
from driftcli.statistics.round_turns import RoundTurns
from tests.statistics.test_round_turns import turns

POST = ("--drafter", "bundled:post-norm", "--threads", "1")


def ended(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as stopped:
        main(["costs", *words])
    return stopped.value.code


def test_steps_of_transformers_are_written_for_diagnose_and_said_to_be_no_servers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "costs.json"
    assert ended(*POST, "--draft-lengths", "1,3", "--context", "16", "--out", str(out)) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "BATCH 1: plain decoding takes" in said and "these are steps of transformers, not of a server" in said
    costs = read_costs(out, 3)
    (steps,) = costs.by_batch
    assert isinstance(steps, StepCosts) and len(steps.verify) == 4
    assert costs.engine is not None and (costs.engine.name, costs.engine.dtype, costs.engine.threads) == ("transformers", "float32", 1)
    assert ended(*POST, "--out", str(out)) == 2
    assert "is there; name another file, or overwrite one with --force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--engine-args", "{}"), "are arguments of vLLM's engine; add --engine vllm"),
        (("--engine", "vllm", "--engine-args", "["), "--engine-args [: no JSON"),
        (("--engine", "vllm", "--engine-args", "[1]"), "expected a JSON object"),
        (("--engine", "vllm", "--engine-args", '{"model": "x"}'), "model follows from the other options"),
        (("--draft-lengths", "0"), "--draft-lengths 0: '0' is no such number"),
        (("--out", "no/such/costs.json"), "there is no folder no/such"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_a_sentence(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ended(*POST, *words) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_without_vllm_it_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vllm", None)
    assert ended(*POST, "--engine", "vllm", "--out", str(tmp_path / "costs.json")) == 3
    assert "--engine vllm: the package vllm cannot be imported here" in capsys.readouterr().err


def test_rounds_are_shown_with_their_spread_and_what_they_must_keep_to_pay() -> None:
    engine = TimedIn("vllm", "0.32.0", "x86_64", "float32", 1)
    exact = RoundTurns((0, 1, 2, 4), turns(0.0).seconds / 1000)
    shown = " ".join(plain(render(Costs("rounds of vLLM", 512, (RoundCosts.timed(1, exact),), engine), "costs.json")).split())
    assert "plain decoding takes 10 ms a step (half of the middle half of 24 repetitions: 0%)" in shown
    assert "a round 13 14 16 18 ms" in shown
    assert "break-even 1.30 1.40 1.60 1.80 acceptance length" in shown
    assert "spread 0% 0% - 0%" in shown  # the third length lies between two that were timed
    assert "transformers" not in shown


def test_the_file_is_printed_as_json_where_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "costs.json"
    assert ended(*POST, "--draft-lengths", "1", "--context", "8", "--out", str(out), "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())
