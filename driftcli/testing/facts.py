"""A run made of a few facts by hand, with the real curves and the real bootstrap on top."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict

import numpy as np

from driftcli.conditions import BASELINE, Plan, StopMeasure, Wiring
from driftcli.domain import Absent, Estimate, ModelCard, PairCard, RunSpec, Sourced
from driftcli.statistics.costs import Costs
from driftcli.statistics.intervals import Statistic
from driftcli.statistics.pooled import Pooled
from driftcli.statistics.positions import Replies, no_replies
from driftcli.statistics.shift import Shift
from driftcli.statistics.survival import Chains, Told
from driftcli.statistics.walks import Floats, Sums
from driftcli.testing.heads import ANCHORS, HAIR, Head

Number = Estimate | Absent
DECODED = 100.0  # rounds of a plan that is given


def pair_card(*, no_recursion: str | None = None, pre_fc_norm: str = "none", feedback: str = "raw") -> PairCard:
    """An EAGLE-3 pair, or a causal LM as drafter where `no_recursion` says why it has no state; change more by `dataclasses.replace`."""
    record = {"pre_fc_norm": Sourced(pre_fc_norm, "tensor"), "feedback": Sourced(feedback, "config:norm_output")}
    model = ModelCard("a/model", None, "llama", "0" * 16)
    return PairCard(model, model, "causal-lm" if no_recursion else "eagle3", {} if no_recursion else record, 1, no_recursion)


class Given(TypedDict, total=False):
    """The facts that can be given, all of them optional; `Facts` says what stands where one is not."""

    head: Head  # how it fares under the baseline: right guesses, state, attention and kept drafts by depth, and the number of prompts
    pair: PairCard
    conditions: Mapping[str, Head]  # how it fares under others
    ratios: Mapping[str, Number]  # whatever is held against the baseline, by condition, where a number says it sooner than a head
    plans: Mapping[Plan, float | Sequence[float] | Absent]  # drafts kept on 100 rounds of each; several are dealt over prompts in turn
    by_category: Mapping[str, Head]  # how it fares on the prompts of each
    contrasts: Mapping[str, Number]  # a category's number against that of all other prompts
    streams: Mapping[str, tuple[Number, Number]]  # RMS of each captured stream, and of what it adds to the fused input
    beyond: Head  # how it fares past the position that is asked for
    replies: Replies  # by how far they have gone
    lengths: Sequence[int]  # tokens of each text
    costs: Costs
    temperature: float
    quick: bool
    chosen: float  # share of the given reply tokens that are the target's own choice
    reference: str
    wiring: Wiring
    band: tuple[float, float]  # of every measure of fresh queries; what is left out widens it
    survival: Mapping[Told, Chains | Absent]  # what it says of its chains, and what became of them
    shift: Shift  # what changes against a twin that the run is held against


@dataclass(frozen=True)
class Facts(Pooled):
    """A run of which these facts are known. Numbers that no fact tells are those of a head with nothing wrong; `Given` explains each."""

    head: Head = field(default_factory=Head)
    pair: PairCard = field(default_factory=pair_card)
    conditions: Mapping[str, Head] = field(default_factory=dict)
    ratios: Mapping[str, Number] = field(default_factory=dict)
    plans: Mapping[Plan, float | Sequence[float] | Absent] = field(default_factory=dict)
    by_category: Mapping[str, Head] = field(default_factory=dict)
    contrasts: Mapping[str, Number] = field(default_factory=dict)
    streams: Mapping[str, tuple[Number, Number]] = field(default_factory=dict)
    beyond: Head | None = None
    replies: Replies = field(default_factory=lambda: no_replies(4))
    lengths: Sequence[int] = (100,)
    costs: Costs | None = None
    temperature: float = 0.0
    quick: bool = False
    chosen: float = 1.0
    reference: str = BASELINE
    wiring: Wiring = field(default_factory=Wiring)
    band: tuple[float, float] = (1.0, 2.0)
    survival: Mapping[Told, Chains | Absent] = field(default_factory=dict)
    shift: Shift | None = None

    @property
    def spec(self) -> RunSpec:  # type: ignore[override]
        """A run as deep as the head's facts go."""
        against = "" if self.shift is None else self.shift.twin
        return RunSpec(depth=self.head.depth, temperature=self.temperature, quick=self.quick, against=against)

    @property
    def argmax_share(self) -> float:
        """As given by `chosen`."""
        return self.chosen

    @property
    def n_prompts(self) -> int:
        """As many as the head answered."""
        return self.head.prompts

    @property
    def n_anchors(self) -> int:
        """As many as counts are out of, a prompt."""
        return ANCHORS * self.n_prompts

    @property
    def measured(self) -> frozenset[str]:
        """Every condition of which a fact is given."""
        return frozenset({BASELINE, *self.conditions, *self.ratios, *(plan.condition for plan in self.plans)})

    def between(self, start: int, stop: int) -> Facts:
        """Past a position, what is given by `beyond`."""
        return self if start == 0 or self.beyond is None else replace(self, head=self.beyond)

    def sums(self, condition: str) -> Sums:
        """Of how the head fares under a condition, as it always does where nothing is given."""
        return self.conditions.get(condition, self.head).sums

    def plan_sums(self, plan: Plan) -> Sums:
        """Every round has as many drafts as the plan allows; of a plan that is not given the walk of its condition tells."""
        given, sums = self.plans.get(plan), self.sums(plan.condition)
        rounds, kept = (sums[f"{name}_by_length"][:, plan.drafts - 1] for name in ("rounds", "kept"))
        if given is not None and not isinstance(given, Absent):
            dealt = np.resize(np.atleast_1d(np.asarray(given, dtype=float)), self.n_prompts)
            rounds, kept = np.full(self.n_prompts, DECODED), dealt + HAIR * (np.arange(self.n_prompts) % 7) * dealt**2
        by_sent = np.zeros((self.n_prompts, plan.drafts + 1))
        by_sent[:, plan.drafts] = rounds
        return {"rounds_by_sent": by_sent, "kept": kept, "anchors": sums["anchors"]}

    def cannot_plan(self, plan: Plan) -> Absent | None:
        """What is given in place of a count."""
        found = self.plans.get(plan)
        return found if isinstance(found, Absent) else None

    def fresh_band(self, measure: StopMeasure, outside: float) -> tuple[float, float] | None:
        """The band that is given, wider by the share that is left out."""
        return self.band[0] - outside, self.band[1] + outside

    @property
    def categories(self) -> dict[str, int]:
        """Prompts of each category that is given."""
        return {name: head.prompts for name, head in self.by_category.items()}

    def of_category(self, category: str) -> Facts:
        """A run with the prompts of a category alone."""
        return replace(self, head=self.by_category[category])

    def within_category(self, category: str) -> np.ndarray:
        """Never asked: a contrast is given."""
        raise NotImplementedError("a contrast of categories is given as a fact")

    def contrast(self, statistic: Statistic, combine: Callable[[Floats, Floats], Floats], category: str, tries: int = 1) -> Number:
        """The number that is given for a category, whatever it counts."""
        return self.contrasts.get(category) or Absent(f"no contrast is given of {category}")

    def ratio_to_baseline(self, statistic: Statistic, condition: str, tries: int = 1) -> Number:
        """The number that is given for a condition, whatever it counts, else that of the two heads."""
        return self.ratios.get(condition) or super().ratio_to_baseline(statistic, condition, tries)

    def by_stream(self) -> dict[str, tuple[Number, Number]]:
        """As given by `streams`."""
        return dict(self.streams)
