"""Temperatures against a plain search over the same loss, against planted ones, and against their own spread over other prompts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from driftcli.domain import Absent, Estimate
from driftcli.statistics.survival import Chains
from driftcli.statistics.temperatures import fit, logits, survival

DEPTH, ANCHORS = 4, 50


def planted(seed: int, temperature: float, prompts: int = 24) -> Chains:
    """A drafter whose logits are so many times too large; prompts differ in how sure it is on them."""
    random = np.random.default_rng(seed)
    unit = np.repeat(np.arange(prompts), ANCHORS)
    logit = random.normal(1.5, 1.5, (len(unit), DEPTH)) + random.normal(0, 0.5, prompts)[unit][:, None]
    right = random.random(logit.shape) < 1 / (1 + np.exp(-logit / temperature))
    return Chains(1 / (1 + np.exp(-logit)), np.cumprod(right, axis=1).sum(axis=1), unit, prompts, seed)


def squared_error(product: NDArray[np.float64], survived: NDArray[np.bool_]) -> float:
    """Chain by chain, as it is written down."""
    return sum((float(p) - float(y)) ** 2 for p, y in zip(product, survived, strict=True))


def test_the_product_is_that_of_the_probabilities_each_under_its_temperature() -> None:
    chain = np.array([[0.8, 0.5, 0.9]])
    assert survival(chain)[0].tolist() == pytest.approx([0.8, 0.4, 0.36])
    by_hand = [0.8**0.5 / (0.8**0.5 + 0.2**0.5), 0.5, 0.9**2 / (0.9**2 + 0.1**2)]  # temperatures 2, 3 and a half
    assert survival(chain, (2.0, 3.0, 0.5))[0].tolist() == pytest.approx(np.cumprod(by_hand).tolist())
    assert survival(chain[:, :2], (2.0, 3.0, 0.5))[0].tolist() == pytest.approx(np.cumprod(by_hand[:2]).tolist())


def test_certainty_has_a_finite_logit() -> None:
    assert np.isfinite(logits(np.array([0.0, 1.0]))).all()
    assert logits(np.array([0.75]))[0] == pytest.approx(np.log(3))


def test_each_temperature_loses_least_against_what_survived_with_those_before_it_fixed() -> None:
    chains = planted(5, 2.0, prompts=6)
    found = fit(chains.probability, chains.accepted, chains.unit, chains.units)
    for depth in range(DEPTH):
        earlier = found.temperatures[:depth]

        def loss(logarithm: float, depth: int = depth, earlier: tuple[float, ...] = earlier) -> float:
            product = survival(chains.probability[:, : depth + 1], (*earlier, float(np.exp(logarithm))))[:, depth]
            return squared_error(product, chains.accepted > depth)

        least = minimize_scalar(loss, bounds=(-2.5, 2.5), method="bounded", options={"xatol": 1e-7})
        assert found.temperatures[depth] == pytest.approx(float(np.exp(least.x)), rel=1e-4)


def test_the_pull_of_a_unit_is_what_leaving_it_out_moves() -> None:
    chains = planted(6, 2.0, prompts=60)
    whole = fit(chains.probability, chains.accepted, chains.unit, chains.units)
    assert np.abs(whole.pull.sum(axis=0)).max() < 1e-4
    for gone in (3, 17, 40):
        some = chains.unit != gone
        without = fit(chains.probability[some], chains.accepted[some], chains.unit[some], chains.units)
        moved = np.log(whole.temperatures) - np.log(without.temperatures)
        assert moved.tolist() == pytest.approx(whole.pull[gone].tolist(), abs=0.001)


def test_a_depth_that_all_or_no_chains_survive_to_has_no_temperature_and_those_around_it_have() -> None:
    chains = planted(7, 2.0)
    kept = chains.accepted.copy()
    kept[kept == 1] = 0  # whatever survives the first survives the second, so depths 1 and 2 are alike; nothing reaches the last
    found = fit(chains.probability, np.minimum(kept, DEPTH - 1), chains.unit, chains.units)
    assert found.fitted[-1] is False
    assert found.temperatures[-1] == 1.0
    assert found.fitted[0]
    every = fit(chains.probability, np.full(len(kept), DEPTH), chains.unit, chains.units)
    assert every.fitted == (False,) * DEPTH
    assert np.isfinite(every.pull).all()


def test_a_planted_temperature_lies_in_its_interval_as_often_as_an_interval_of_95_percent_says() -> None:
    runs, hit = 120, np.zeros(DEPTH)
    for seed in range(runs):
        found = planted(seed, 2.0).temperatures()
        assert all(isinstance(one, Estimate) for one in found)
        hit += [one.low <= 2 <= one.high for one in found if isinstance(one, Estimate)]
    assert (hit / runs > 0.88).all(), hit / runs  # 95% less three and a half standard errors of 120 runs
    assert (hit / runs).mean() < 0.995


def test_fewer_than_16_prompts_have_no_temperature() -> None:
    (first, *_) = planted(1, 2.0, prompts=15).temperatures()
    assert isinstance(first, Absent)
    assert "15 prompts" in first.reason
