"""The engine's states and logits equal the golden steps, which the producers' own classes and formulas computed (`make_steps.py`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from driftcli.target.language_model import LanguageModel
from tests.engine.golden import ASKED, GOLDEN, PROMPT, STEPS, TOLERANCE, apart, draft_steps, golden_target, split, steps_apart


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return golden_target(tmp_path_factory.mktemp("golden") / "target")


def test_there_are_golden_steps_of_every_producer() -> None:
    producers = {"safeai", "specforge", "speculators", "modelopt", "nemo", "mla", "fork", "eagle1", "hass", "wide", "deepspec"}
    assert {split(step)[0].split("-")[0] for step in STEPS} == producers


@pytest.mark.parametrize("step", STEPS)
def test_the_engine_computes_what_the_producers_code_computed(step: str, target: LanguageModel, tmp_path: Path) -> None:
    golden = load_file(GOLDEN / f"{step}.safetensors")
    drafter, drafted = draft_steps(step, golden, target, tmp_path)
    assert steps_apart(drafter, drafted, golden) < TOLERANCE
    for depth, queries in enumerate(drafted.forced):
        prob, guess = golden["chain.logits"][depth].softmax(-1).max(-1)
        assert float(queries.guesses.draft_prob[-1]) == pytest.approx(float(prob), rel=1e-3)
        assert int(queries.guesses.drafted[-1]) == int(drafter.to_target(guess))  # type: ignore[operator]


@pytest.mark.parametrize("step", ["specforge-3.1.as_trained", "modelopt.as_trained", "mla.as_trained", "eagle1-bias.as_trained"])
def test_a_golden_step_of_shifted_streams_is_told_apart(step: str, target: LanguageModel, tmp_path: Path) -> None:
    golden = load_file(GOLDEN / f"{step}.safetensors")
    streams = {key: held.roll(1, 0) for key, held in golden.items() if key.startswith("stream.")}
    drafter, _ = draft_steps(step, {**golden, **streams}, target, tmp_path)
    assert apart(drafter.heard[0][ASKED], golden["fresh.logits"][PROMPT - 1 :]) > TOLERANCE
