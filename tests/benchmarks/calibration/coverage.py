"""Do intervals hold the truth as often as they say, one by one and all at once, and do they never claim to know everything?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from driftcli.conditions import BASELINE, Condition, Plan
from driftcli.domain import Absent, Estimate
from driftcli.mitigations.attention import AttentionRegularisation
from driftcli.mitigations.diagnostics import Diagnostics
from driftcli.mitigations.trials import tokens_a_round
from driftcli.statistics.curves import (
    accepted_drafts,
    compounding,
    handoff,
    prompt_side_change,
    rms_ratio,
    self_feeding_tax,
    walk_acceptance_length,
)
from probes.template import TemplateChanges
from tests.benchmarks.calibration.effort import Effort
from tests.benchmarks.calibration.population import Population
from tests.benchmarks.calibration.regimes import CEILING, DEPTH, FLOOR, REGIMES, Planted, Scenario
from tests.benchmarks.calibration.run import PAIR, SimulatedRun, WholePopulation, spec_of
from tests.benchmarks.calibration.shares import Bound, Share, Table

LEAST = {"tiny": 0.91, "smol": 0.935, "llama": 0.935}  # of intervals that hold the truth
FAMILY_MISSES = 0.06  # at most, where all of several intervals shall hold in 95% of runs
TRIALS = tuple(one.name for kind in (AttentionRegularisation(), Diagnostics()) for one in kind.conditions(PAIR, spec_of()))
CHANGES = TemplateChanges()
Found = Estimate | Absent
Numbers = Callable[[SimulatedRun], Sequence[Found]]
CONDITIONS: Mapping[str, Condition] = {
    one.name: one for asked in (CHANGES, AttentionRegularisation(), Diagnostics()) for one in asked.conditions(PAIR, spec_of())
}
SCENARIOS: Sequence[Mapping[Planted, float]] = ({"drift": 0.2}, {})


def table(effort: Effort) -> Table:
    """Both kinds of intervals in every regime, and those at floor and ceiling."""
    told = Table("coverage: share of 95% intervals that hold the truth, %")
    for name, regime in REGIMES.items():
        for losses in SCENARIOS[: effort.scenarios]:
            population = Population(Scenario(regime, losses), CONDITIONS, effort.prompts)
            what = f"{name}, compounding {losses.get('drift', 0.0):.0%}"
            singles(told, what, population, effort, LEAST[name])
            _families(told, what, population, effort)
    _edges(told, effort)
    return told


def singles(told: Table, what: str, population: Population, effort: Effort, least: float) -> None:
    told.row(f"{what}, by prompts", effort.sizes)
    held = {size: _misses(population, _single, size, effort.runs) for size in effort.sizes}
    for place, name in enumerate(NUMBERS):
        shares = [Share.of(~held[size][:, place]) for size in effort.sizes]
        told.row(f"  {name}", shares)
        told.bounds += [
            Bound(f"{what}, {name}, {size} prompts", share, at_least=least) for size, share in zip(effort.sizes, shares, strict=True)
        ]


def _families(told: Table, what: str, population: Population, effort: Effort) -> None:
    told.row(f"{what}, any of several misses", effort.families)
    for name, asked in FAMILIES.items():
        shares = [Share.of(map(any, _misses(population, asked, size, effort.runs))) for size in effort.families]
        told.row(f"  {name}", shares)
        told.bounds += [
            Bound(f"{what}, {name}, {size} prompts", share, at_most=FAMILY_MISSES)
            for size, share in zip(effort.families, shares, strict=True)
        ]


def _misses(population: Population, asked: Numbers, size: int, runs: int) -> np.ndarray:
    """Which intervals miss the truth; (run, number). One that does not exist misses nothing."""
    truth = [_value(one) for one in asked(WholePopulation.of(population))]
    random = np.random.default_rng([population.seed, size])
    found = (asked(SimulatedRun.drawn(population, size, random)) for _ in range(runs))
    return np.array([[_missed(one, true) for one, true in zip(numbers, truth, strict=True)] for numbers in found])


def _missed(one: Found, truth: float) -> bool:
    return isinstance(one, Estimate) and not one.low <= truth <= one.high


def _value(one: Found) -> float:
    assert isinstance(one, Estimate), one.reason
    return one.value


def _single(run: SimulatedRun) -> Sequence[Found]:
    return [number(run) for number in NUMBERS.values()]


def _edges(told: Table, effort: Effort) -> None:
    """Where all prompts drawn say the same, the interval must be what they cannot exclude, and hold the truth too."""
    told.row("acceptance length where prompts are alike", effort.sizes)
    for regime in (CEILING, FLOOR):
        population = Population(Scenario(regime), {}, effort.prompts)
        truth = _value(NUMBERS["acceptance length"](WholePopulation.of(population)))
        found = {size: _drawn(population, size, effort.runs) for size in effort.sizes}
        told.row(f"  {regime.name}: held", [Share.of([not _missed(one, truth) for one in found[size]]) for size in effort.sizes])
        certain = [Share.of([isinstance(one, Estimate) and one.low == one.high for one in found[size]]) for size in effort.sizes]
        told.row(f"  {regime.name}: of no width", certain)
        told.bounds += [
            Bound(f"{regime.name}, {size} prompts, no width", share, at_most=0.0) for size, share in zip(effort.sizes, certain, strict=True)
        ]


def _drawn(population: Population, size: int, runs: int) -> list[Found]:
    random = np.random.default_rng([population.seed, size])
    return [NUMBERS["acceptance length"](SimulatedRun.drawn(population, size, random)) for _ in range(runs)]


def trial(run: SimulatedRun, condition: str, tries: int = 1) -> Found:
    """What another way of drafting gives, in tokens a round."""
    return run.planned(tokens_a_round, Plan(condition, DEPTH), Plan(BASELINE, DEPTH), tries=tries)


NUMBERS: Mapping[str, Callable[[SimulatedRun], Found]] = {
    "acceptance length": lambda run: run.estimate(walk_acceptance_length),
    "compounding": lambda run: run.by_depth(compounding)[-1],
    "hand-off": lambda run: run.estimate(handoff),
    "self-feeding tax": lambda run: run.estimate(self_feeding_tax),
    "RMS ratio": lambda run: run.by_depth(rms_ratio)[-1],
    "region change": lambda run: run.by_depth(prompt_side_change)[-1],
    "ratio, new texts": lambda run: run.ratio_to_baseline(accepted_drafts, "no-template"),
    "ratio, same texts": lambda run: run.ratio_to_baseline(accepted_drafts, "no-template-replayed"),
    "mitigation ratio": lambda run: trial(run, TRIALS[0]),
}
FAMILIES: Mapping[str, Numbers] = {
    "mitigations at once": lambda run: [trial(run, name, len(TRIALS)) for name in TRIALS],
    "changes at once, new texts": lambda run: _changed(run, ""),
    "changes at once, same texts": lambda run: _changed(run, "-replayed"),
}


def _changed(run: SimulatedRun, suffix: str) -> Sequence[Found]:
    names = [name for name in CONDITIONS if CONDITIONS[name].probe == CHANGES.name and name.endswith("-replayed") == bool(suffix)]
    return [run.ratio_to_baseline(accepted_drafts, name, len(names)) for name in names]
