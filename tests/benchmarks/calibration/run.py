"""A simulated run: some prompts of a population, drawn without looking at the rest, read as any run is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from driftcli.conditions import BASELINE, Condition, Plan, StopMeasure, Wiring
from driftcli.domain import Absent, Estimate, ModelCard, PairCard, RenderingFacts, RunSpec, Sourced
from driftcli.probe import Probe
from driftcli.statistics.costs import Costs, StepCosts
from driftcli.statistics.intervals import Bootstrap
from driftcli.statistics.pooled import Pooled
from driftcli.statistics.positions import Replies
from driftcli.statistics.survival import Chains, Told
from driftcli.statistics.walks import Floats, Sums
from tests.benchmarks.calibration.effects import ALTERNATIVES
from tests.benchmarks.calibration.population import Population
from tests.benchmarks.calibration.regimes import CATEGORIES, DEPTH
from tests.benchmarks.calibration.tokens import Random

FREE = StepCosts(1, 0.0, 0.0, (1.0,) * (DEPTH + 1))  # so that no shorter draft is faster
RECORD = {
    "capture": Sourced((2, 8, 13), "config:eagle_aux_hidden_state_layer_ids"),
    "pre_fc_norm": Sourced("none", "tensor"),
    "feedback": Sourced("raw", "config:norm_output"),
    "max_position_embeddings": Sourced(8192, "config:max_position_embeddings"),
}
MODEL = ModelCard("simulated", None, "llama", "0" * 16)
RENDERING = RenderingFacts(templated=True, begins_with_bos=True, names_roles=True, prompts_reply=True, takes_system=True)
PAIR = PairCard(MODEL, MODEL, "eagle3", RECORD, 1, alternatives=tuple(ALTERNATIVES), rendering=RENDERING)


def spec_of(*, quick: bool = False) -> RunSpec:
    """What a simulated run was asked for."""
    return RunSpec(depth=DEPTH, quick=quick)


def conditions_of(battery: Sequence[Probe], spec: RunSpec) -> dict[str, Condition]:
    """Every condition that a battery asks for in its first round, by name: no sound pair has a second."""
    return {one.name: one for probe in battery for one in probe.conditions(PAIR, spec)}


@dataclass(frozen=True)
class SimulatedRun(Pooled):
    """A run over drawn prompts; implements `driftcli.probe.Trace`.

    rows: (prompt,) their places in the population, by category, as ids sort. rank: (prompt,) their order by content, by which a condition
    that is asked of a few prompts takes the first.
    """

    population: Population
    rows: np.ndarray
    rank: np.ndarray
    spec: RunSpec = field(default_factory=spec_of)
    pair: PairCard = PAIR
    reference: str = BASELINE
    wiring: Wiring = field(default_factory=Wiring)
    argmax_share: float = 1.0
    lengths: Sequence[int] = (300,)
    costs: Costs | None = field(default_factory=lambda: Costs("simulated", 300, (FREE,)))
    _taken: dict[str, Sums] = field(default_factory=dict)

    @classmethod
    def drawn(cls, population: Population, prompts: int, random: Random, spec: RunSpec | None = None) -> SimulatedRun:
        """A run over so many prompts, as many of each category as of any other, or one more."""
        each = [len(part) for part in np.array_split(np.arange(prompts), len(CATEGORIES))]
        rows = [random.choice(np.flatnonzero(population.categories == place), count) for place, count in enumerate(each)]
        return cls(population, np.concatenate(rows), random.permutation(prompts), spec or spec_of())

    @property
    def n_prompts(self) -> int:
        return len(self.rows)

    @property
    def n_anchors(self) -> int:
        return int(self.sums(BASELINE)["anchors"].sum())

    @cached_property
    def measured(self) -> frozenset[str]:
        return frozenset({BASELINE, *self.population.conditions})

    def between(self, start: int, stop: int) -> SimulatedRun:
        return self

    @cached_property
    def replies(self) -> Replies:
        sums = {name: values[self.rows] for name, values in self.population.by_position.items()}
        return Replies(sums, np.arange(len(self.rows)), np.zeros(len(self.rows), dtype=bool), DEPTH, self.spec.seed)

    @property
    def survival(self) -> Mapping[Told, Chains | Absent]:
        return {}  # simulated chains have no probabilities

    def sums(self, condition: str) -> Sums:
        if condition not in self._taken:
            self._taken[condition] = self._of_rows(self.population.sums(condition), condition)
        return self._taken[condition]

    def plan_sums(self, plan: Plan) -> Sums:
        return self._of_rows(self.population.plan_sums(plan), plan.condition)

    def cannot_plan(self, plan: Plan) -> Absent | None:
        return None

    def within_category(self, category: str) -> np.ndarray:
        own: np.ndarray = self.population.categories[self.rows] == CATEGORIES.index(category)
        return own

    @cached_property
    def categories(self) -> Mapping[str, int]:
        counts = {name: int(self.within_category(name).sum()) for name in CATEGORIES}
        return {name: count for name, count in counts.items() if count}

    def of_category(self, category: str) -> SimulatedRun:
        own = self.within_category(category)
        return replace(self, rows=self.rows[own], rank=self.rank[own], _taken={})

    def fresh_band(self, measure: StopMeasure, outside: float) -> tuple[float, float] | None:
        return self.population.band(measure, outside)

    def by_stream(self) -> dict[str, tuple[Estimate | Absent, Estimate | Absent]]:
        return {}

    def _of_rows(self, sums: Sums, condition: str) -> Sums:
        asked = self.population.conditions[condition].prompts if condition in self.population.conditions else 0
        taken: dict[str, Floats] = {name: values[self.rows].astype(float) for name, values in sums.items()}
        return {name: (values.T * (self.rank < asked)).T for name, values in taken.items()} if asked else taken


class WholePopulation(SimulatedRun):
    """All prompts of a population, the numbers of which are the truth; their intervals mean nothing."""

    @classmethod
    def of(cls, population: Population, spec: RunSpec | None = None) -> WholePopulation:
        """Every prompt, once."""
        rows = np.arange(population.count)
        return cls(population, rows, np.zeros_like(rows), spec or spec_of(), population.count)

    def _draws(self, n_units: int) -> Bootstrap:
        return Bootstrap(np.ones((2, n_units)))
