"""Does noise in the times of steps make a change of the draft length look faster than it is?

A pair is simulated of which every draft length has nearly the speed of the run's own, none more: what is said to help then helps by luck of
the turns in which its steps were timed, or of the prompts. The truth of rules that end a chain early is told by the true costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from driftcli.conditions import Plan
from driftcli.domain import Estimate
from driftcli.mitigations.draft_length import DraftLength
from driftcli.mitigations.early_stop import EarlyStop
from driftcli.mitigations.trials import Outcome, judged
from driftcli.statistics.costs import Costs, StepCosts
from driftcli.statistics.curves import length_by_draft_length
from driftcli.statistics.payoff import advised_length, best_length, speed
from driftcli.statistics.turns import Turns
from tests.benchmarks.calibration.coverage import FAMILY_MISSES
from tests.benchmarks.calibration.effort import Effort
from tests.benchmarks.calibration.population import Population
from tests.benchmarks.calibration.regimes import DEPTH, LLAMA, Scenario
from tests.benchmarks.calibration.run import SimulatedRun, WholePopulation
from tests.benchmarks.calibration.shares import Bound, Share, Table
from tests.benchmarks.calibration.tokens import Random

TURNS = 25  # in which steps are timed, as on a machine that is fast enough
BOUNDED, FALSE = 0.3, 0.01  # noise up to which so few runs, at most, may say that something helps which does not
FIRST, STEP, PLAIN = 0.1, 0.02, 1.0  # seconds of the drafter's steps, and of one of plain decoding
SLOWER = 0.99  # speed of the other draft lengths over that of the run's own, at the least: no reason to change it


@dataclass(frozen=True)
class Timed:
    """What is said of one run by costs that were timed anew."""

    doubted: bool
    trials: Sequence[tuple[Outcome, float]] = ()
    advised: int = DEPTH
    misses: bool = False

    @property
    def helps_falsely(self) -> bool:
        """Whether anything is said to help, or advised, that is no faster in truth."""
        return self.advised != DEPTH or any(one.helps and truth <= 1 for one, truth in self.trials)

    @property
    def any_misses(self) -> bool:
        """Whether any shown gain misses the truth."""
        return any(isinstance(one.gain, Estimate) and not one.gain.low <= truth <= one.gain.high for one, truth in self.trials)


def table(effort: Effort) -> Table:
    """False help, missed gains and withheld costs by the noise of turns."""
    told = Table("timing: % of runs by the noise of a step's seconds; no draft length is faster than the run's own")
    told.row("", [f"{noise:.0%}" for noise in effort.noises])
    for size in effort.timed_sizes:
        found = {noise: [_timed(effort.prompts, size, noise, number) for number in range(effort.timed)] for noise in effort.noises}
        helps = {noise: Share.of(run.helps_falsely for run in runs) for noise, runs in found.items()}
        missed = {noise: Share.of(run.any_misses for run in runs) for noise, runs in found.items()}
        told.row(f"{size} prompts: said to help, falsely", list(helps.values()))
        told.row("  any shown gain misses", list(missed.values()))
        told.row("  speed over plain decoding misses", [Share.of(run.misses for run in runs) for runs in found.values()])
        told.row("  no speed told, the times being doubted", [Share.of(run.doubted for run in runs) for runs in found.values()])
        told.bounds += [
            Bound(f"{size} prompts, noise {one:.0%}, helps", helps[one], at_most=FALSE) for one in effort.noises if one <= BOUNDED
        ]
        told.bounds += [Bound(f"{size} prompts, noise {one:.0%}, gains", share, at_most=FAMILY_MISSES) for one, share in missed.items()]
    return told


@cache
def _pair(prompts: int) -> tuple[Population, StepCosts]:
    """A sound pair, and costs by which its shorter drafts are nearly as fast as its longest."""
    population = Population(Scenario(LLAMA), {}, prompts)
    tokens = [one.value for one in WholePopulation.of(population).by_depth(length_by_draft_length) if isinstance(one, Estimate)]
    seconds = [(PLAIN + FIRST) * own / tokens[0] for own in tokens]  # of a round of each length, were all as fast
    seconds = [own / SLOWER if length < DEPTH else own for length, own in enumerate(seconds, 1)]
    verify = (PLAIN, *(own - FIRST - STEP * place for place, own in enumerate(seconds)))
    assert all(np.diff(verify) > 0)
    return population, StepCosts(1, FIRST, STEP, verify)


def timed_anew(costs: StepCosts, noise: float, random: Random) -> StepCosts:
    """The same costs as a few noisy turns have them."""
    true = np.array([costs.draft_first, 0.0, costs.draft_step, *costs.verify])
    return StepCosts.timed(1, Turns(tuple(range(1, DEPTH + 2)), true * np.exp(noise * random.standard_normal((TURNS, len(true))))))


def _timed(prompts: int, size: int, noise: float, number: int) -> Timed:
    population, true = _pair(prompts)
    random = np.random.default_rng([size, number])  # the same prompts and luck for every noise
    run = SimulatedRun.drawn(population, size, random)
    costs = timed_anew(true, noise, random)
    if costs.doubt:
        return Timed(doubted=True)
    run = replace(run, costs=Costs("simulated", 300, (costs,)))
    trials = [(kind.kind, trial) for kind in (DraftLength(), EarlyStop()) for trial in kind.trials(run)]
    told = [(one, _truth(prompts, one.option.plan, one.option.over)) for one in judged(run, trials, costs) if one.option is not None]
    plan, worth = best_length(run, costs)
    truth = _truth(prompts, plan)
    misses = isinstance(worth, Estimate) and not worth.low <= truth <= worth.high
    return Timed(doubted=False, trials=told, advised=advised_length(run, costs), misses=misses)


@cache
def _truth(prompts: int, plan: Plan, over: Plan | None = None) -> float:
    """How many times the speed of another plan, or of plain decoding, a plan has in truth."""
    population, true = _pair(prompts)
    found = WholePopulation.of(population).planned(speed(true), plan, over)
    assert isinstance(found, Estimate)
    return found.value
