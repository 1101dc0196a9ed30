"""What does the whole battery say of pairs that are sound, by its own verdict, and what does it claim to help?

Of a sound pair every graded finding is false, and so is every mitigation that is said to help, since none is faster in truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from driftcli.codes import BY_NAME
from driftcli.conditions import Plan
from driftcli.domain import Estimate, Verdict
from driftcli.mitigations.probe import Mitigations, outcomes
from driftcli.mitigations.trials import Outcome
from driftcli.probe import Probe
from driftcli.report.verdict import SEVERITY_AXES, judge
from driftcli.statistics.payoff import speed
from probes import BATTERY, QUICK
from tests.benchmarks.calibration.coverage import FAMILY_MISSES
from tests.benchmarks.calibration.effort import Effort
from tests.benchmarks.calibration.population import Population
from tests.benchmarks.calibration.regimes import REGIMES, Regime, Scenario
from tests.benchmarks.calibration.run import FREE, SimulatedRun, WholePopulation, conditions_of, spec_of
from tests.benchmarks.calibration.shares import Bound, Share, Table

WHOLE: tuple[Probe, ...] = (*BATTERY, Mitigations())
HEALTHY = {(False, 80): 0.90, (True, 24): 0.85}  # of sound pairs, by whether it is the quick battery and by prompts
FALSE = 0.05  # of runs, at most, that say of a sound pair what is not so
NEVER = ("LENGTH-LOSS", "DRIFT-LONGCTX", "WINDOW-HELPS", "LENGTH-OUT", "NONDETERMINISM", "PROMPT-UNUSED", "MISWIRED")


@dataclass(frozen=True)
class Case:
    """A kind of sound pair, and the run that is made of it."""

    regime: Regime
    quick: bool
    size: int

    def __str__(self) -> str:
        return f"{self.regime.name}, {'quick' if self.quick else 'whole'} battery, {self.size} prompts"


@dataclass(frozen=True)
class Read:
    """What was said of one run: the verdict, and every trial of a mitigation with the truth of its option."""

    verdict: Verdict
    trials: Sequence[tuple[Outcome, float]]

    @property
    def codes(self) -> set[str]:
        """Codes of the findings, `MISWIRED` for any of the wiring's that is graded so; what is true of a sound pair's capacity left out."""
        found = [one for one in self.verdict.findings if BY_NAME[one.code].axis not in ("capacity", "payoff") or one.code in NEVER]
        return {"MISWIRED" if one.severity == "miswired" else one.code for one in found}


def table(effort: Effort) -> Table:
    """Verdicts, false findings and false help, a block a case."""
    told = Table("sound pairs: % of runs")
    cases = [Case(REGIMES[name], quick, size) for name in effort.sound for quick, size in effort.verdict_sizes]
    for case in cases:
        _block(told, case, [_read(case, effort.prompts, number) for number in range(effort.verdicts)])
    return told


def _block(told: Table, case: Case, runs: Sequence[Read]) -> None:
    told.lines.append(str(case))
    verdicts: Counter[str] = Counter(run.verdict.severity for run in runs)
    told.lines.append(f"  verdict: {_shares(verdicts, len(runs))}")
    told.lines.append(f"  found: {_shares(Counter(code for run in runs for code in run.codes), len(runs))}")
    for axis in ("wiring", *SEVERITY_AXES):
        told.lines.append(f"  {axis}: {_shares(Counter(run.verdict.axes[axis].state for run in runs), len(runs))}")
    told.bounds += [Bound(f"{case}, {code}", Share.of(code in run.codes for run in runs), at_most=FALSE) for code in NEVER]
    if least := HEALTHY.get((case.quick, case.size)):
        told.bounds.append(Bound(f"{case}, healthy", Share(verdicts["healthy"], len(runs)), at_least=least))
    helps, missed = (Share.of(map(said, runs)) for said in (_helps_falsely, _misses))
    told.lines.append(f"  a mitigation said to help that does not: {helps}; any shown gain misses: {missed}")
    told.bounds += [Bound(f"{case}, helps", helps, at_most=FALSE), Bound(f"{case}, shown gains", missed, at_most=FAMILY_MISSES)]


def _shares(counts: Counter[str], runs: int) -> str:
    return ", ".join(f"{name} {Share(count, runs)}" for name, count in counts.most_common()) or "nothing"


def _helps_falsely(run: Read) -> bool:
    return any(outcome.helps and truth <= 1 for outcome, truth in run.trials)


def _misses(run: Read) -> bool:
    return any(isinstance(one.gain, Estimate) and not one.gain.low <= truth <= one.gain.high for one, truth in run.trials)


def battery_of(*, quick: bool) -> tuple[Probe, ...]:
    """The probes of a run."""
    return tuple(probe for probe in WHOLE if probe.name in QUICK) if quick else WHOLE


@cache
def sound(regime: Regime, quick: bool, prompts: int) -> Population:
    """Sound pairs of a regime, under all that a battery asks for."""
    return Population(Scenario(regime), conditions_of(battery_of(quick=quick), spec_of(quick=quick)), prompts)


def _read(case: Case, prompts: int, number: int) -> Read:
    population = sound(case.regime, case.quick, prompts)
    run = SimulatedRun.drawn(population, case.size, np.random.default_rng([case.size, number]), spec_of(quick=case.quick))
    return Read(judge(run, battery_of(quick=case.quick)), list(_told(population, outcomes(run))))


def _told(population: Population, found: Iterable[Outcome]) -> Iterable[tuple[Outcome, float]]:
    return ((one, _truth(population, one.option.plan, one.option.over)) for one in found if one.option is not None)


_TRUTHS: dict[tuple[int, Plan, Plan], float] = {}


def _truth(population: Population, plan: Plan, over: Plan) -> float:
    """How many times the speed a plan has in truth."""
    key = (id(population), plan, over)
    if key not in _TRUTHS:
        found = WholePopulation.of(population).planned(speed(FREE), plan, over)
        assert isinstance(found, Estimate)
        _TRUTHS[key] = found.value
    return _TRUTHS[key]
