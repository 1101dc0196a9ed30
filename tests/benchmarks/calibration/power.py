"""Is a planted loss found, is it ever called healthy, and do two runs of one pair say the same of it?

Only the probes of the axis on which the loss is planted are asked: the verdict is healthy only where that axis is healthy or open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from driftcli.domain import AxisVerdict
from driftcli.probe import Probe
from driftcli.report.verdict import GRADED, judge
from probes import BATTERY
from tests.benchmarks.calibration.effort import Effort
from tests.benchmarks.calibration.population import Population
from tests.benchmarks.calibration.regimes import AXES, REGIMES, Planted, Scenario
from tests.benchmarks.calibration.run import SimulatedRun, conditions_of, spec_of
from tests.benchmarks.calibration.shares import Bound, Share, Table

LARGE, NEVER_HEALTHY = 0.4, 0.01  # a loss that must not be called healthy, and in how many runs it may be at most
AGREE = (0.2, 0.4)  # losses of which two runs must say the same
SAME_WORDS = 0.85  # of pairs of runs, at least
DECIDING = {"drift": 24, "template": 24, "context": 80, "domain": 80}  # prompts from which a battery judges an axis at all


@dataclass(frozen=True)
class Planting:
    """A loss on one axis of a regime."""

    regime: str
    axis: Planted
    loss: float

    @property
    def graded(self) -> bool:
        """Whether two runs must say the same of it: of drift, which a run has by far the most to say of."""
        return self.axis == "drift" and self.loss in AGREE

    def __str__(self) -> str:
        return f"{self.regime}, {self.axis}, {self.loss:.0%}"


def power(effort: Effort) -> Table:
    """Share of runs that find a planted loss, or call it healthy."""
    told = Table("planted losses: % of runs, found / inconclusive / open or healthy")
    told.row("by prompts", effort.plant_sizes)
    for planting in plantings(effort):
        seen = {size: axis_verdicts(planting, size, effort) for size in effort.plant_sizes}
        told.row(str(planting), [_three([one.state for one in found]) for found in seen.values()])
        told.bounds += _never_healthy(planting, seen)
    return told


def _never_healthy(planting: Planting, seen: dict[int, list[AxisVerdict]]) -> Iterator[Bound]:
    if planting.loss < LARGE:
        return
    for size, found in seen.items():
        if size >= DECIDING[planting.axis]:
            share = Share.of(one.state in ("healthy", "open") for one in found)
            yield Bound(f"{planting}, {size} prompts, healthy", share, at_most=NEVER_HEALTHY)


def _three(states: list[str]) -> str:
    found, open = (sum(state in words for state in states) for words in (GRADED, ("healthy", "open")))
    return " / ".join(f"{100 * count / len(states):.0f}" for count in (found, len(states) - found - open, open))


def grades(effort: Effort) -> Table:
    """The most likely grade that runs name, and how often two runs on other prompts name the same one."""
    told = Table("grades: two runs that say the same, %, and what they say")
    told.row("by prompts", effort.plant_sizes)
    for planting in plantings(effort):
        words = {size: [_word(one) for one in axis_verdicts(planting, size, effort)] for size in effort.plant_sizes}
        agree = {size: Share.of(map(str.__eq__, said[::2], said[1::2])) for size, said in words.items()}
        told.row(str(planting), list(agree.values()))
        told.row("", [_most_said(said) for said in words.values()])
        if planting.graded:
            told.bounds += [
                Bound(f"{planting}, {size} prompts, same words", agree[size], at_least=SAME_WORDS) for size in agree if size >= 24
            ]
    return told


def _word(axis: AxisVerdict) -> str:
    return axis.likely or axis.state


def _most_said(words: list[str]) -> str:
    return " ".join(f"{word[:4]} {100 * count / len(words):.0f}" for word, count in Counter(words).most_common(2))


def plantings(effort: Effort) -> Iterator[Planting]:
    """Every planted loss."""
    every = (Planting(name, axis, loss) for name in effort.planted for axis in AXES for loss in effort.losses)
    return (one for one in every if not effort.bounded or one.loss == LARGE or one.graded)


def judging(axis: Planted) -> tuple[Probe, ...]:
    """The probes that judge an axis."""
    return tuple(probe for probe in BATTERY if axis in probe.axes)


@cache
def planted(planting: Planting, prompts: int) -> Population:
    """The population of a planted loss, under what the probes of its axis ask for."""
    scenario = Scenario(REGIMES[planting.regime], {planting.axis: planting.loss})
    return Population(scenario, conditions_of(judging(planting.axis), spec_of()), prompts)


@cache
def axis_verdicts(planting: Planting, size: int, effort: Effort) -> list[AxisVerdict]:
    """What runs of so many prompts say of the axis."""
    population, random = planted(planting, effort.prompts), np.random.default_rng([size, len(str(planting))])
    runs = (SimulatedRun.drawn(population, size, random) for _ in range(effort.runs_of_axis))
    return [judge(run, judging(planting.axis)).axes[planting.axis] for run in runs]
