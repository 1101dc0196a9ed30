"""The contract between the engine and a probe: what to run, and what the traces mean.

A probe is an object with the members of `Probe`. `conditions` and `judge` are pure: no I/O, no clock; randomness only from the run's
seed. `conditions` sees the pair as it was read, `judge` sees a finished run's numbers and nothing else, so thresholds can move without a
GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from driftcli.domain import Absent, Axis, Condition, Estimate, Finding, PairCard, RunSpec, Skipped
from driftcli.stats import Floats, Sums


class Trace(Protocol):
    """The numbers of a run, pooled over prompts on demand."""

    @property
    def pair(self) -> PairCard:
        """Target and drafter as they were read."""

    @property
    def spec(self) -> RunSpec:
        """What was asked for."""

    @property
    def n_prompts(self) -> int:
        """Prompts with at least one anchor."""

    @property
    def argmax_share(self) -> float:
        """Share of given reply tokens that are the target's own choice, 1 when it wrote all; below 0.99 no acceptance is claimed."""

    def estimate(self, statistic: Callable[[Sums], Floats], condition: str = "baseline") -> Estimate | Absent:
        """One number with its interval over prompts."""

    def by_depth(self, statistic: Callable[[Sums], Floats], condition: str = "baseline") -> Sequence[Estimate | Absent]:
        """One number a depth, depth 1 first."""

    def ratio_to_baseline(self, statistic: Callable[[Sums], Floats], condition: str) -> Estimate | Absent:
        """A condition's number over the baseline's, paired prompt by prompt."""

    def by_stream(self) -> dict[str, tuple[Estimate | Absent, Estimate | Absent]]:
        """For each captured stream and the fused input: RMS, and the RMS of what it adds to the fused input; empty without streams."""


class Probe(Protocol):
    """One question about a pair."""

    @property
    def name(self) -> str:
        """Its id: the module's name with hyphens, the value in the `probe` column, the heading in reports."""

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes that it judges."""

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """What to run besides the baseline."""

    def judge(self, trace: Trace) -> Iterator[Finding | Skipped]:
        """What the run says; an axis of `axes` with neither a finding nor a skip is healthy."""
