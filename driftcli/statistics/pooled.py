"""The numbers of a run from its sums by unit: what `driftcli.probe.Trace` promises, for whoever has such sums."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from driftcli.conditions import Plan
from driftcli.domain import Absent, Estimate, Half, PairCard, RunSpec
from driftcli.statistics.intervals import Bootstrap, Mapped, Statistic
from driftcli.statistics.walks import Floats, Sums, ratio

NO_ANCHORS = "no reply was long enough for a chain"


class Pooled(ABC):
    """Numbers with intervals over units. A unit is a prompt, or several that belong together; all arrays of sums begin with the unit."""

    pair: PairCard
    spec: RunSpec

    @property
    @abstractmethod
    def reference(self) -> str:
        """The condition that everything is held against."""

    @property
    def failed(self) -> Mapping[str, str]:
        """Why each condition that failed did; none unless a kind of run knows of some."""
        return {}

    @property
    @abstractmethod
    def n_prompts(self) -> int:
        """Units with at least one anchor."""

    @abstractmethod
    def sums(self, condition: str) -> Sums:
        """Sums over anchors by unit, (unit,) or (unit, depth), that `driftcli.statistics.curves` turns into numbers."""

    @abstractmethod
    def plan_sums(self, plan: Plan) -> Sums:
        """Sums by unit of decoding by a plan: `rounds_by_sent` (unit, drafts + 1), `kept` and `anchors` (unit,)."""

    @abstractmethod
    def cannot_plan(self, plan: Plan) -> Absent | None:
        """Why decoding by a plan cannot be counted, None where it can."""

    @abstractmethod
    def within_category(self, category: str) -> np.ndarray:
        """Which units are of a category; (unit,)."""

    def estimate(self, statistic: Statistic, condition: str | None = None) -> Estimate | Absent:
        """One number with its interval over prompts, of the reference unless another condition is named."""
        return self.by_depth(statistic, condition)[0]

    def by_depth(self, statistic: Statistic, condition: str | None = None, tries: int = 1) -> Sequence[Estimate | Absent]:
        """One number a depth, depth 1 first, of the reference unless another condition is named; intervals hold for `tries` at once."""
        if lacking := self._lacking(condition):
            return [lacking] * self.spec.depth
        sums = self.sums(condition or self.reference)
        some = np.flatnonzero(sums["anchors"])
        return self._draws(len(some)).estimates(Mapped(sums, lambda values: values[some]), statistic, tries)

    def ratio_to_baseline(self, statistic: Statistic, condition: str, tries: int = 1) -> Estimate | Absent:
        """The condition's number over the reference's, paired prompt by prompt; the interval holds for `tries` such numbers at once."""
        return self.ratio(statistic, condition, self.reference, tries)

    def ratio(self, statistic: Statistic, condition: str, over: str, tries: int = 1) -> Estimate | Absent:
        """The condition's number over another's, on the prompts that both have, paired; the interval holds for `tries` at once."""
        return self._compared(statistic, ratio, (condition, over), None, tries)

    def gain(self, statistic: Statistic, condition: str, over: str, half: Half | None = None, tries: int = 1) -> Estimate | Absent:
        """The condition's number minus another's, paired prompt by prompt, on all prompts that both have or one half of them."""
        return self._compared(statistic, np.subtract, (condition, over), half, tries)

    def planned(
        self, statistic: Statistic, plan: Plan, over: Plan | None = None, half: Half | None = None, tries: int = 1
    ) -> Estimate | Absent:
        """A number of decoding by a plan, or its ratio to that of another, on the prompts that both have; `statistic` sees `rounds_by_sent`
        (draw, drafts + 1), `kept` and `anchors` (draw,). half: of the prompts, all unless said. The interval holds for `tries` at once.
        """
        plans = [plan] if over is None else [plan, over]
        unknown = (self.cannot_plan(one) for one in plans)
        if lacking := next(filter(None, unknown), None) or self._lacking(*(one.condition for one in plans)):
            return lacking
        sums = [self.plan_sums(one) for one in plans]
        some = dealt(np.all([one["anchors"] > 0 for one in sums], axis=0), half)
        if not len(some):
            return Absent(NO_ANCHORS)
        own = [Mapped(one, lambda values: values[some]) for one in sums]
        draws = self._draws(len(some))
        return draws.estimate(own[0], statistic, tries) if over is None else draws.compared(own[0], own[1], statistic, ratio, tries)

    def contrast(
        self, statistic: Statistic, combine: Callable[[Floats, Floats], Floats], category: str, tries: int = 1
    ) -> Estimate | Absent:
        """A category's number combined with that of all other prompts, all resampled together; the interval holds for `tries` at once."""
        if not self.n_prompts:
            return Absent(NO_ANCHORS)
        inside, sums = self.within_category(category), self.sums(self.reference)
        own, others = (Mapped(sums, lambda values, some=some: (values.T * some).T) for some in (inside, ~inside))  # type: ignore[misc]
        return self._draws(self.n_prompts).compared(own, others, statistic, combine, tries)

    def _compared(
        self,
        statistic: Statistic,
        combine: Callable[[Floats, Floats], Floats],
        conditions: tuple[str, str],
        half: Half | None,
        tries: int,
    ) -> Estimate | Absent:
        """A number of two conditions combined, on the prompts that both have, as deep as the shorter of the two chains goes."""
        if lacking := self._lacking(*conditions):
            return lacking
        first, second = map(self.sums, conditions)
        some = dealt((first["anchors"] > 0) & (second["anchors"] > 0), half)
        if not len(some):
            return Absent(NO_ANCHORS)
        depth = min(sums["kept_at"].shape[1] for sums in (first, second))
        own, other = (Mapped(sums, lambda values: values[some, :depth] if values.ndim > 1 else values[some]) for sums in (first, second))
        return self._draws(len(some)).compared(own, other, statistic, combine, tries)

    def _lacking(self, *conditions: str | None) -> Absent | None:
        """Why these conditions have no numbers, None where they have."""
        if not self.n_prompts:
            return Absent(NO_ANCHORS)
        if failed := next((name for name in conditions if name is not None and name in self.failed), None):
            return Absent(self.failed[failed])
        return None if all(self.sums(name or self.reference)["anchors"].any() for name in conditions) else Absent(NO_ANCHORS)

    def _draws(self, n_units: int) -> Bootstrap:
        """Draws of so many units, the same whenever they are asked for."""
        return Bootstrap.of(n_units, self.spec.seed)


def dealt(usable: np.ndarray, half: Half | None) -> np.ndarray:
    """Places of the usable units, or of every other one of them: the halves differ by one at most, whichever units are left out."""
    some = np.flatnonzero(usable)
    return some if half is None else some[half == "judging" :: 2]
