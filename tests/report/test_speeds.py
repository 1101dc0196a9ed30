from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from driftcli.report import speeds
from driftcli.report.json import estimate_json
from driftcli.statistics.costs import BatchCosts, RoundCosts, StepCosts, TimedIn
from driftcli.traces.reader import Run, read_run
from tests.report.synthetic import Life, Recipe, write_run

STEPS = StepCosts(1, 0.3, 0.3, (1.0,) * 9)
ROUNDS = RoundCosts(1, (1.0, *(1.0 + 0.3 * drafts for drafts in range(1, 9))))  # the same seconds, timed as a whole
VLLM = TimedIn("vllm", "0.32.0", "x86_64", "float32", 1, "enforce_eager=True")
OURS = TimedIn("transformers", "5.24.0", "x86_64", "float32", 1)
PROMPTS = tuple(f"p{number:02}" for number in range(24))


def made(path: Path, costs: BatchCosts, engine: TimedIn | None) -> Run:
    write_run(path, Recipe(Life(), costs=[costs], prompts=PROMPTS, timed_in=engine))
    return read_run(path)


def payoff(run: Run) -> list[dict]:  # type: ignore[type-arg]
    return json.loads(json.dumps(speeds.payoff_json(run, estimate_json)))  # type: ignore[no-any-return]


def test_whole_rounds_of_the_same_seconds_give_the_speeds_that_steps_give(tmp_path: Path) -> None:
    (steps,), (rounds,) = payoff(made(tmp_path / "a", STEPS, None)), payoff(made(tmp_path / "b", ROUNDS, VLLM))
    assert (steps.pop("timed"), rounds.pop("timed")) == ("steps", "rounds")
    assert (steps.pop("engine"), rounds.pop("engine")) == (None, asdict(VLLM))
    for one, other in zip(steps.pop("by_draft_length"), rounds.pop("by_draft_length"), strict=True):
        assert one["speed_up"]["value"] == pytest.approx(other["speed_up"]["value"])
        assert one["break_even_length"] == pytest.approx(other["break_even_length"])
    assert (steps["best_draft_length"], steps["advised_draft_length"]) == (rounds["best_draft_length"], rounds["advised_draft_length"])


@pytest.mark.parametrize(("engine", "said"), [(OURS, [speeds.NO_SERVER]), (VLLM, []), (None, [speeds.UNKNOWN_ENGINE])])
def test_steps_of_transformers_or_of_nobody_knows_what_are_said_to_be_no_servers(
    tmp_path: Path, engine: TimedIn | None, said: list[str]
) -> None:
    lines = speeds.payoff_lines(made(tmp_path / "run", STEPS, engine))
    assert [line for line in lines if line in (speeds.NO_SERVER, speeds.UNKNOWN_ENGINE)] == said
    assert any(line.startswith("step times: by hand, after 100 tokens") for line in lines)


def test_rounds_are_called_rounds(tmp_path: Path) -> None:
    lines = speeds.payoff_lines(made(tmp_path / "run", ROUNDS, VLLM))
    assert any(line.startswith("round times: by hand, after 100 tokens") for line in lines)
