"""Whether a drafter knows how far its chain will get: the product of its own probabilities, held against what survives verification.

A drafter says of each draft token how likely it is, given that those before it are accepted: by the probability of the token itself, which
EAGLE-2 found to be near its rate of acceptance (Li et al. 2024, arXiv:2406.16858, section 3.1), or by a head that was trained to
say so, as DSpark's (arXiv:2607.05147). The product up to a depth is then its forecast that all draft tokens up to there are accepted. The
chain is the deployed one, which goes on behind its own tokens; all anchors count, those of chains that have missed already too.

A forecast that is right on average for every value that it takes is calibrated; one that is higher where the chain survives tells chains
apart. Rules that stop by it at a fixed number need the first, those that only choose between chains the second. Temperatures are fitted on
one half of the prompts and judged on the other, both ways, so no prompt is judged by what was fitted on it; intervals then are over
prompts, the temperatures being what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np

from driftcli.conditions import StopMeasure
from driftcli.domain import Absent, Estimate, Half
from driftcli.statistics.intervals import Bootstrap, Mapped, too_few, within
from driftcli.statistics.pooled import NO_ANCHORS, dealt
from driftcli.statistics.temperatures import Fit, fit, survival
from driftcli.statistics.walks import MINIMAL_PROMPTS, Floats, Sums, by_unit, ratio

Told = Literal["draft_prob", "confidence"]  # what says it, by the column of the traces
TOLD: Mapping[Told, str] = {"draft_prob": "its probabilities", "confidence": "its confidence head"}
PRODUCTS: Mapping[Told, StopMeasure] = {"draft_prob": "survival", "confidence": "head"}  # over a chain, as what rules look at
BINS = 10  # of a forecast, equally wide, for its calibration error
RANKS = 256  # groups of forecasts of equal size among which chains are told apart; finer ones move the third digit at most (chosen by us)
Statistic: TypeAlias = Callable[[Sums], Floats]


@within(0, 1)
def survived(sums: Sums) -> Floats:
    """Share of the chains that survive to each depth; (draw, depth)."""
    return ratio(sums["survived"], sums["anchors"][:, None])


@within(0, 1)
def promised(sums: Sums) -> Floats:
    """Mean forecast."""
    return ratio(sums["promised"], sums["anchors"][:, None])


@within(0, 1)
def brier(sums: Sums) -> Floats:
    """Mean squared distance of the forecast from 1 where the chain survives and from 0 where it does not. Source: Brier 1950."""
    return ratio(sums["squared"], sums["anchors"][:, None])


@within(-1, 1)
def brier_gain(sums: Sums) -> Floats:
    """By how much the temperatures lower the Brier score; needs the sums of both forecasts."""
    return ratio(sums["squared_before"] - sums["squared"], sums["anchors"][:, None])


@within(0, 1)
def calibration_error(sums: Sums) -> Floats:
    """Expected calibration error over ten bins of the forecast. Of few chains it is above 0 by chance alone: the Brier score is the one
    that says whether temperatures help. Source: Guo et al. 2017 (arXiv:1706.04599), equation 3.
    """
    apart = np.abs(sums["promised_by_bin"] - sums["survived_by_bin"]).sum(axis=-1)
    return ratio(apart, sums["anchors"][:, None])


@within(0, 1)
def mean_calibration_error(sums: Sums) -> Floats:
    """The same, mean over all depths; (draw,)."""
    found: Floats = calibration_error(sums).mean(axis=-1)
    return found


@within(0, 1)
def auroc(sums: Sums) -> Floats:
    """How often a chain that survives has the higher forecast of two, the other one not surviving; ties count half. Of forecasts in groups
    by size. Source: Hanley and McNeil 1982.
    """
    higher = (sums["survived_by_rank"] * sums["lost_below_rank"]).sum(axis=-1)
    return ratio(higher, sums["survived"] * (sums["anchors"][:, None] - sums["survived"]))


def binned_sums(forecast: Floats, accepted: np.ndarray, unit: np.ndarray, units: int) -> dict[str, Floats]:
    """Forecasts, and chains that survive, by unit, depth and the forecast, (unit, depth, bin), of which the calibration error is made.

    forecast: (anchor, depth); accepted: (anchor,) draft tokens kept; unit: (anchor,), of `units`.
    """
    in_bin = np.clip((forecast * BINS).astype(int), 0, BINS - 1)
    told = {"promised_by_bin": forecast, "survived_by_bin": _lived(forecast, accepted)}
    return {name: _placed(values, unit, units, in_bin, BINS) for name, values in told.items()}


def forecast_sums(forecast: Floats, accepted: np.ndarray, unit: np.ndarray, units: int) -> dict[str, Floats]:
    """All sums by unit that the statistics read; as `binned_sums`."""
    lived, in_rank = _lived(forecast, accepted), _ranks(forecast)
    lost = _placed(1 - lived, unit, units, in_rank, RANKS)
    return {
        "anchors": np.bincount(unit, minlength=units).astype(np.float64),
        "survived": by_unit(unit, lived, units),
        "promised": by_unit(unit, forecast, units),
        "squared": by_unit(unit, (forecast - lived) ** 2, units),
        **binned_sums(forecast, accepted, unit, units),
        "survived_by_rank": _placed(lived, unit, units, in_rank, RANKS),
        "lost_below_rank": np.cumsum(lost, axis=-1) - lost / 2,
    }


def _lived(forecast: Floats, accepted: np.ndarray) -> Floats:
    """1 where a chain survives to a depth, else 0; (anchor, depth)."""
    found: Floats = (accepted[:, None] > np.arange(forecast.shape[1])).astype(np.float64)
    return found


def _placed(values: Floats, unit: np.ndarray, units: int, place: np.ndarray, size: int) -> Floats:
    """Sums by unit and depth within `size` places, (anchor, depth) -> (unit, depth, place)."""
    depth = values.shape[1]
    cell = (unit[:, None] * depth + np.arange(depth)) * size + place
    found: Floats = np.bincount(cell.ravel(), values.ravel(), units * depth * size).astype(np.float64).reshape(units, depth, size)
    return found


def _ranks(forecast: Floats) -> np.ndarray:
    """Of each forecast its place among all of its depth, in groups of equal size; each its own where there are no more of them."""
    found = np.zeros(forecast.shape, dtype=int)
    for depth in range(forecast.shape[1]):
        values = np.unique(forecast[:, depth])
        if len(values) > RANKS:
            values = np.unique(np.quantile(forecast[:, depth], np.arange(1, RANKS) / RANKS))
        found[:, depth] = np.searchsorted(values, forecast[:, depth], side="left")
    return np.minimum(found, RANKS - 1)


@dataclass(frozen=True)
class Chains:
    """What a drafter said of its chains, and what became of them.

    probability: (anchor, depth), of each draft token given that those before it are accepted. accepted: (anchor,) how many were. unit:
    (anchor,), of `units`. seed: of the draws.
    """

    probability: Floats
    accepted: np.ndarray
    unit: np.ndarray
    units: int
    seed: int = 0
    _fits: dict[Half | None, Fit] = field(init=False, default_factory=dict, compare=False, repr=False)
    _told: dict[tuple[Statistic, bool, int], list[Estimate | Absent]] = field(init=False, default_factory=dict, compare=False, repr=False)

    @property
    def depth(self) -> int:
        """Draft tokens a chain."""
        return int(self.probability.shape[1])

    @cached_property
    def _usable(self) -> np.ndarray:
        return np.bincount(self.unit, minlength=self.units) > 0

    @property
    def n_prompts(self) -> int:
        """Units with an anchor."""
        return int(self._usable.sum())

    @property
    def unfitted(self) -> str:
        """Why no temperatures are fitted on one half and judged on the other; empty where they are."""
        least = 2 * MINIMAL_PROMPTS
        return too_few(self.n_prompts, least) if self.n_prompts < least else ""

    def of_units(self, some: np.ndarray) -> Chains:
        """Those of some units alone; some: (unit,)."""
        kept = some[self.unit]
        return replace(self, probability=self.probability[kept], accepted=self.accepted[kept], unit=self.unit[kept])

    def fit(self, half: Half | None = None) -> Fit:
        """The temperatures that fit one half of the prompts, or all of them."""
        if half not in self._fits:
            kept = np.isin(self.unit, dealt(self._usable, half))
            self._fits[half] = fit(self.probability[kept], self.accepted[kept], self.unit[kept], self.units)
        return self._fits[half]

    @property
    def whole(self) -> Fit:
        """The temperatures that fit all prompts: those to use."""
        return self.fit()

    def temperatures(self) -> list[Estimate | Absent]:
        """They with their intervals, depth 1 first."""
        if self.unfitted:
            return [Absent(self.unfitted)] * self.depth
        there = {"pull": self.whole.pull[self._usable]}
        logs = np.log(self.whole.temperatures)
        found = self._draws.estimates(there, lambda sums: logs + sums["pull"])
        return [_exponential(one, fitted) for one, fitted in zip(found, self.whole.fitted, strict=True)]

    def by_depth(self, statistic: Statistic, *, scaled: bool = False, tries: int = 1) -> list[Estimate | Absent]:
        """A number of the forecast as it is, or under the temperatures of the other half, depth 1 first; intervals for `tries` at once."""
        if not self.n_prompts:
            return [Absent(NO_ANCHORS)] * self.depth
        if scaled and self.unfitted:
            return [Absent(self.unfitted)] * self.depth
        asked = statistic, scaled, tries
        if asked not in self._told:
            sums = Mapped(self._scaled if scaled else self._raw, lambda values: values[self._usable])
            self._told[asked] = self._draws.estimates(sums, statistic, tries)
        return self._told[asked]

    @property
    def gains(self) -> list[Estimate | Absent]:
        """By how much the temperatures of the other half lower the Brier score, for all depths at once."""
        return self.by_depth(brier_gain, scaled=True, tries=self.depth)

    @property
    def _draws(self) -> Bootstrap:
        return Bootstrap.of(self.n_prompts, self.seed)

    @cached_property
    def _raw(self) -> Sums:
        return forecast_sums(survival(self.probability), self.accepted, self.unit, self.units)

    @cached_property
    def _scaled(self) -> Sums:
        """Of the forecast under the other half's temperatures, with the squares of what it was before."""
        forecast, halves = np.zeros_like(self.probability), get_args(Half)
        for judged, fitted in zip(halves, reversed(halves), strict=True):
            some = np.isin(self.unit, dealt(self._usable, judged))
            forecast[some] = survival(self.probability[some], self.fit(fitted).temperatures)
        return {**forecast_sums(forecast, self.accepted, self.unit, self.units), "squared_before": self._raw["squared"]}


def _exponential(logarithm: Estimate | Absent, fitted: bool) -> Estimate | Absent:
    if not fitted:
        return Absent("none fits: all chains survive to this depth, or none, or whatever the drafter says")
    if isinstance(logarithm, Absent):
        return logarithm
    value, low, high = (float(np.exp(one)) for one in (logarithm.value, logarithm.low, logarithm.high))
    return Estimate(value, low, high, logarithm.n_prompts)
