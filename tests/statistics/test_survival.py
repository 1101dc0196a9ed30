"""The forecast of a chain against plain loops, and what is said of a drafter that promises too much, or what it keeps."""

from __future__ import annotations

import numpy as np
import pytest

from driftcli.domain import Absent, Estimate
from driftcli.statistics.survival import (
    BINS,
    Chains,
    auroc,
    brier,
    brier_gain,
    calibration_error,
    forecast_sums,
    promised,
    survived,
)
from driftcli.statistics.temperatures import survival
from driftcli.statistics.walks import Floats, Sums
from tests.statistics.test_temperatures import DEPTH, planted


def pooled(chains: Chains) -> Sums:
    forecast = survival(chains.probability)
    return {
        name: values.sum(axis=0, keepdims=True)
        for name, values in forecast_sums(forecast, chains.accepted, chains.unit, chains.units).items()
    }


def pairs_won(forecast: Floats, lived: np.ndarray) -> float:
    """Over all pairs, one by one."""
    won = [float(a > b) + 0.5 * float(a == b) for a in forecast[lived] for b in forecast[~lived]]
    return sum(won) / len(won)


@pytest.mark.parametrize("few", [True, False])
def test_scores_are_those_of_plain_loops(few: bool) -> None:
    chains = planted(2, 2.0, prompts=4 if few else 16)
    if few:  # values that tie
        chains = Chains(np.round(chains.probability, 1), chains.accepted, chains.unit, chains.units)
    sums, forecast = pooled(chains), survival(chains.probability)
    for depth in range(DEPTH):
        lived, told = chains.accepted > depth, forecast[:, depth]
        assert survived(sums)[0, depth] == pytest.approx(lived.mean())
        assert promised(sums)[0, depth] == pytest.approx(told.mean())
        assert brier(sums)[0, depth] == pytest.approx(np.mean([(p - y) ** 2 for p, y in zip(told, lived, strict=True)]))
        error = 0.0
        for number in range(BINS):
            some = [place for place, p in enumerate(told) if min(int(p * BINS), BINS - 1) == number]
            error += abs(sum(told[place] - lived[place] for place in some)) / len(told)
        assert calibration_error(sums)[0, depth] == pytest.approx(error)
        assert auroc(sums)[0, depth] == pytest.approx(pairs_won(told, lived), abs=1e-12 if few else 5e-4)


def test_a_depth_without_both_kinds_of_chains_has_no_order() -> None:
    chains = planted(2, 2.0)
    every = Chains(chains.probability, np.full(len(chains.accepted), DEPTH), chains.unit, chains.units)
    assert all(isinstance(one, Absent) for one in every.by_depth(auroc))
    assert all(one.value == pytest.approx(1) for one in every.by_depth(survived))


def test_a_drafter_that_promises_too_much_gains_by_temperatures_fitted_on_other_prompts() -> None:
    chains = planted(3, 2.0, prompts=40)
    for raw, scaled, gain in zip(chains.by_depth(brier), chains.by_depth(brier, scaled=True), chains.gains, strict=True):
        assert isinstance(gain, Estimate)
        assert gain.value == pytest.approx(raw.value - scaled.value)  # type: ignore[operator]
        assert gain.low > 0
    raw_errors, errors = chains.by_depth(calibration_error), chains.by_depth(calibration_error, scaled=True)
    assert all(after.value < 0.5 * before.value for before, after in zip(raw_errors, errors, strict=True))  # type: ignore[operator]


def test_a_calibrated_drafter_has_nothing_to_gain() -> None:
    runs = [planted(seed, 1.0, prompts=24).gains for seed in range(60)]
    found = [one for gains in runs for one in gains if isinstance(one, Estimate)]
    assert len(found) == 60 * DEPTH
    assert sum(one.low > 0 for one in found) <= 4  # of 60 runs, 5% at most in any depth
    assert np.mean([one.value for one in found]) < 0  # what is fitted on others costs a little where there is nothing to fit


def test_no_prompt_is_judged_by_what_was_fitted_on_it() -> None:
    chains = planted(4, 2.0, prompts=16)
    before = chains.by_depth(brier, scaled=True)
    halves = {"selecting": chains.fit("selecting"), "judging": chains.fit("judging")}
    squares = np.zeros(DEPTH)
    for anchor, unit in enumerate(chains.unit):
        other = halves["judging" if unit % 2 == 0 else "selecting"].temperatures
        told = survival(chains.probability[anchor : anchor + 1], other)[0]
        squares += (told - (chains.accepted[anchor] > np.arange(DEPTH))) ** 2
    assert [one.value for one in before] == pytest.approx((squares / len(chains.unit)).tolist())


def test_some_units_alone_are_those_units() -> None:
    chains = planted(4, 2.0, prompts=16)
    some = np.arange(16) < 9
    narrowed = chains.of_units(some)
    assert narrowed.n_prompts == 9
    assert narrowed.unfitted
    (first, *_) = narrowed.by_depth(brier)
    kept = chains.unit < 9
    assert first.value == pytest.approx(np.mean((chains.probability[kept, 0] - (chains.accepted[kept] > 0)) ** 2))
    assert all(isinstance(one, Absent) for one in narrowed.by_depth(brier_gain, scaled=True))
