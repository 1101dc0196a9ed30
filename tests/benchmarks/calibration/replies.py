"""Late in a reply against its own beginning: is a fall found where there is one, never where there is none, and does its interval hold it?

Replies go on to a thousand tokens, and easy prompts get the longer ones, so that parts that are pooled over all replies rise by themselves,
or hide a fall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from driftcli.domain import Estimate, Finding, Skipped
from driftcli.statistics.positions import Replies, accepted
from probes.reply_position import ReplyPosition
from tests.benchmarks.calibration.effort import Effort
from tests.benchmarks.calibration.population import Population
from tests.benchmarks.calibration.regimes import LLAMA, SMOL, Regime, Scenario
from tests.benchmarks.calibration.run import SimulatedRun, WholePopulation
from tests.benchmarks.calibration.shares import Bound, Share, Table

LEAST = 0.935  # of intervals that hold the truth
FALSE = 0.05  # of runs, at most, that find a fall where there is none
PROMPTS = 1500  # of a population at most: replies are long
ENOUGH = 50  # intervals of which a bound is asked: of few prompts hardly any reply reaches the last parts
TIRED = 0.12  # probits that a doubling of the reply costs
PROBE = ReplyPosition()


def table(effort: Effort) -> Table:
    """What is found, and how often intervals hold the truth, in each kind of replies and by prompts."""
    told = Table("position in the reply: % of runs that find a fall / leave it inconclusive; % of intervals that hold the truth, by part")
    for regime in _regimes():
        population = Population(Scenario(regime), {}, min(PROMPTS, effort.prompts))
        truth = _kept(WholePopulation.of(population).replies)
        told.lines.append(f"{regime.name}: kept of the first part's accepted drafts {_words(truth)}")
        for size in effort.sizes:
            _row(told, population, size, [_drawn(population, size, number) for number in range(effort.runs)], truth)
    return told


def _regimes() -> Sequence[Regime]:
    long = [replace(one, anchors=350, anchors_sd=300, most_anchors=1016, easy_is_long=0.5, looping=0) for one in (LLAMA, SMOL)]
    level = [replace(one, name=f"{one.name}, level") for one in long]
    tired = [replace(one, name=f"{one.name}, tired", tiring=TIRED) for one in long]
    return [replace(LLAMA, name="llama of 128 tokens, level"), *level, *tired]


def _drawn(population: Population, size: int, number: int) -> SimulatedRun:
    return SimulatedRun.drawn(population, size, np.random.default_rng([size, number]))


def _kept(replies: Replies) -> list[Estimate | None]:
    later = range(1, len(replies.bins))
    found = [replies.against_first(part, accepted) for part in later]
    return [one if isinstance(one, Estimate) else None for one in found]


def _row(told: Table, population: Population, size: int, runs: Sequence[SimulatedRun], truth: Sequence[Estimate | None]) -> None:
    regime = population.scenario.regime
    said = [list(PROBE.judge(run)) for run in runs]
    found = Share.of(any(isinstance(one, Finding) for one in own) for own in said)
    undecided = Share.of(any(isinstance(one, Skipped) for one in own) for own in said)
    parts = zip(*(_kept(run.replies) + [None] * (len(truth) - len(_kept(run.replies))) for run in runs), strict=True)
    held = [_held(own, true) for own, true in zip(parts, truth, strict=True)]
    told.row(f"  {size} prompts", [f"{found}", f"{undecided}", *held])
    told.bounds += [
        Bound(f"{regime.name}, {size} prompts, part {part}", share, at_least=LEAST)
        for part, share in enumerate(held, 2)
        if share.runs >= ENOUGH
    ]
    if not regime.tiring:
        told.bounds.append(Bound(f"{regime.name}, {size} prompts, LENGTH-OUT", found, at_most=FALSE))


def _held(own: Sequence[Estimate | None], truth: Estimate | None) -> Share:
    assert truth is not None
    return Share.of(one.low <= truth.value <= one.high for one in own if one is not None)


def _words(truth: Sequence[Estimate | None]) -> str:
    return ", ".join("none" if one is None else f"{one.value:.1%}" for one in truth)
