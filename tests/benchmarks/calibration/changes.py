"""How often does each of the five words stand for a change of known size, and does pairing pay?

A second drafter answers the same replies: its scores are as alike to the first one's as drafters of one recipe are or as two of different
recipes, its skill differs a little from prompt to prompt, and a shift sets the acceptance length over all prompts to what it shall be.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np

from driftcli.comparison.words import BAND, WORDS, word_of
from driftcli.statistics.curves import walk_acceptance_length
from driftcli.statistics.intervals import Bootstrap
from driftcli.statistics.walks import Sums
from tests.benchmarks.calibration.counts import accepted_of, total, visited
from tests.benchmarks.calibration.effort import Effort
from tests.benchmarks.calibration.population import Population
from tests.benchmarks.calibration.regimes import DEPTH, REGIMES, Scenario
from tests.benchmarks.calibration.shares import Bound, Share, Table
from tests.benchmarks.calibration.tokens import chain_noise

ALIKE = {"one recipe": (0.9, 0.05), "two recipes": (0.5, 0.15)}  # correlation of scores, and spread of skill between prompts in probits
BOUNDED = (0.0, -0.05)  # changes that are enough to see every bound
TRUE = (0.0, -0.03, -0.05, -0.1, -0.2, 0.05)  # changes of the acceptance length
SIZES = (24, 80)  # prompts
FALSE = (
    0.03  # of runs that may say a change on either side where there is none, or equal where it is outside the band: a tail and its error
)


@dataclass(frozen=True)
class Rival:
    """What the first drafter and one that differs from it come to, prompt by prompt."""

    first: Sums
    second: Sums

    def word(self, size: int, random: np.random.Generator) -> str:
        """What a run of so many prompts says."""
        some = random.integers(0, len(self.first["rounds_by_length"]), size)
        first, second = ({name: values[some] for name, values in own.items()} for own in (self.first, self.second))
        seen = Bootstrap.of(size, 0).compared(second, first, walk_acceptance_length, np.subtract)
        return word_of(seen, "higher", BAND * (_length(first) + _length(second)) / 2)


def table(effort: Effort) -> Table:
    """Each word's share by how large the change is in truth."""
    told = Table(f"changes: words of compare, % of runs, by the true change of the acceptance length; band {BAND:.0%}")
    told.row("", WORDS)
    for regime in effort.planted:
        for alike in ALIKE:
            for true in BOUNDED if effort.bounded else TRUE:
                for size in SIZES:
                    _cell(told, regime, alike, true, size, effort)
    return told


def _cell(told: Table, regime: str, alike: str, true: float, size: int, effort: Effort) -> None:
    pair, random = rival(regime, alike, true, effort.prompts), np.random.default_rng([size, int(1000 * abs(true)), len(alike)])
    said = Counter(pair.word(size, random) for _ in range(effort.runs))
    shares = {word: Share(said[word], effort.runs) for word in WORDS}
    name = f"{regime}, {alike}, {true:+.0%}, {size} prompts"
    told.row(name, list(shares.values()))
    if true == 0:
        told.bounds += [Bound(f"{name}: {word}", shares[word], at_most=FALSE) for word in ("improved", "regressed")]
    else:
        wrong = "improved" if true < 0 else "regressed"
        told.bounds += [Bound(f"{name}: {word}", shares[word], at_most=FALSE) for word in ("equal", wrong)]


@cache
def rival(regime: str, alike: str, true: float, prompts: int) -> Rival:
    """A drafter whose acceptance length over all prompts is by so much another than the first one's."""
    population = Population(Scenario(REGIMES[regime]), {}, prompts)
    reply, chains = population.reply, population.drafts
    first = _sums(chains.right, reply.anchors)
    random, (same, spread) = np.random.default_rng(7), ALIKE[alike]
    other = chain_noise(random.standard_normal(reply.ease.shape, dtype=np.float32), DEPTH, random)
    noise = same * reply.noise + np.float32(np.sqrt(1 - same**2)) * other
    centre = chains.centre + spread * random.standard_normal((prompts, 1, 1))
    wanted = (1 + true) * _length(first)

    def shifted(by: float) -> Sums:
        return _sums(noise > -(centre + by), reply.anchors)

    low, high = -1.0, 1.0
    for _ in range(10):  # to 0.002 probits, a tenth of a percent of the length
        middle = (low + high) / 2
        low, high = (middle, high) if _length(shifted(middle)) < wanted else (low, middle)
    return Rival(first, shifted((low + high) / 2))


def _sums(right: np.ndarray, anchors: np.ndarray) -> Sums:
    """Rounds and kept drafts of the walk at the full depth; (prompt, 1) each."""
    accepted = accepted_of(right)
    on_walk = visited(accepted, anchors)
    return {"rounds_by_length": total(on_walk, on_walk)[:, None], "kept_by_length": total(accepted, on_walk)[:, None]}


def _length(sums: Sums) -> float:
    """Acceptance length over all prompts."""
    return float(
        walk_acceptance_length({name: sums[name].sum(axis=0, keepdims=True) for name in ("rounds_by_length", "kept_by_length")})[0]
    )
