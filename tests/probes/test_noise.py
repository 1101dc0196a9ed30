from __future__ import annotations

import pytest

from driftcli.conditions import DraftSettings, Noise
from driftcli.domain import Absent, Estimate, Finding, RunSpec
from driftcli.testing import Facts, Head, pair_card
from probes.noise import InputNoise


def judged(
    state: tuple[float, float, float] | None, embedding: tuple[float, float, float], *, prompts: int = 10, no_recursion: str | None = None
) -> list[object]:
    kept: Estimate | Absent = Absent("none") if state is None else Estimate(*state, prompts)
    ratios = {"noise-state-0.5": kept, "noise-embedding-0.5": Estimate(*embedding, prompts)}
    return list(InputNoise().judge(Facts(Head(prompts=prompts), pair_card(no_recursion=no_recursion), ratios=ratios)))


def test_each_path_is_tried_at_each_alpha_with_the_seed_of_the_run() -> None:
    asked = InputNoise().conditions(pair_card(), RunSpec(depth=5, seed=7))
    assert [condition.name for condition in asked] == [
        f"noise-{path}-{alpha}" for path in ("state", "embedding") for alpha in ("0.1", "0.5", "1")
    ]
    assert asked[1].settings == DraftSettings(5, noise=Noise("state", 0.5, 7))
    assert InputNoise().conditions(pair_card(no_recursion="no state"), RunSpec()) == ()


def test_the_papers_pre_norm_head_is_noted_as_fragile() -> None:
    (found,) = judged((0.05, 0.03, 0.07), (0.86, 0.84, 0.88))
    assert isinstance(found, Finding)
    assert (found.code, found.severity, found.condition) == ("STATE-FRAGILE", "healthy", "noise-state-0.5")
    assert found.claim == "noise of 50% of the RMS on the hidden state leaves 5% of the accepted draft tokens, on the embedding 86%"


@pytest.mark.parametrize(
    ("state", "embedding"),
    [
        ((0.58, 0.55, 0.61), (0.93, 0.9, 0.96)),  # the paper's post-norm head
        ((0.25, 0.19, 0.31), (0.93, 0.9, 0.96)),  # unsure
        ((0.05, 0.03, 0.07), (0.2, 0.1, 0.29)),  # the embedding is as bad: not the state's fault
        (None, (0.93, 0.9, 0.96)),
    ],
)
def test_a_state_that_bears_noise_or_an_unsure_one_is_not_noted(
    state: tuple[float, float, float] | None, embedding: tuple[float, float, float]
) -> None:
    assert judged(state, embedding) == []


def test_seven_prompts_or_no_state_keep_it_quiet() -> None:
    fragile = (0.05, 0.03, 0.07), (0.86, 0.84, 0.88)
    assert judged(*fragile, prompts=7) == []
    assert judged(*fragile, no_recursion="no state") == []
