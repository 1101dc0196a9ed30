"""The contract between the engine and a probe: what to run, and what the traces mean.

A probe is an object with the members of `Probe`. `conditions` and `judge` are pure: no I/O, no clock; randomness only from the run's
seed. `conditions` sees the pair as it was read, `judge` sees a finished run's numbers and nothing else, so thresholds can move without a
GPU. A probe of `Rounds` asks again after it has seen numbers; a `Search` does so before all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from driftcli.conditions import Condition, Plan, StopMeasure, Wiring
from driftcli.domain import AXES, Absent, Axis, Estimate, Half, PairCard, RunSpec, Said
from driftcli.statistics.costs import Costs
from driftcli.statistics.positions import Replies
from driftcli.statistics.shift import Shift
from driftcli.statistics.survival import Chains, Told
from driftcli.statistics.walks import Floats, Sums


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
        """Units with at least one anchor: prompts, but for those that count as one."""

    @property
    def n_anchors(self) -> int:
        """Anchors of all prompts together."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each text, prompt and reply together, of those with an anchor."""

    def between(self, start: int, stop: int) -> Trace:
        """The same run with the anchors at positions `start .. stop - 1` alone; what counts along walks is undefined there."""

    @property
    def replies(self) -> Replies:
        """The replies of the reference's texts by how far they have gone."""

    @property
    def survival(self) -> Mapping[Told, Chains | Absent]:
        """What the drafter says of the reference's chains, by what says it, and what became of them; absent where it says nothing."""

    @property
    def shift(self) -> Shift | None:
        """What changes against the twin that the run is held against; None without one, or where its texts were not measured."""

    @property
    def argmax_share(self) -> float:
        """Share of given reply tokens that are the target's own choice, 1 when it wrote all; below 0.99 no acceptance is claimed."""

    @property
    def measured(self) -> frozenset[str]:
        """Names of the conditions that have been run, those that failed among them; their numbers are absent with the reason."""

    @property
    def costs(self) -> Costs | None:
        """Seconds of the pair's steps, None where nobody measured or gave them."""

    @property
    def reference(self) -> str:
        """The condition that everything is held against: the baseline, or its rewired twin where another wiring fits the weights."""

    @property
    def wiring(self) -> Wiring:
        """How the reference is put together, where that is not as declared."""

    def estimate(self, statistic: Callable[[Sums], Floats], condition: str | None = None) -> Estimate | Absent:
        """One number with its interval over prompts, of the reference unless another condition is named."""

    def by_depth(self, statistic: Callable[[Sums], Floats], condition: str | None = None, tries: int = 1) -> Sequence[Estimate | Absent]:
        """One number a depth, depth 1 first, of the reference unless another condition is named; intervals hold for `tries` at once."""

    def ratio_to_baseline(self, statistic: Callable[[Sums], Floats], condition: str, tries: int = 1) -> Estimate | Absent:
        """A condition's number over the reference's, paired prompt by prompt; the interval holds for `tries` such numbers at once."""

    def ratio(self, statistic: Callable[[Sums], Floats], condition: str, over: str, tries: int = 1) -> Estimate | Absent:
        """A condition's number over another's, on the prompts that both have, paired; the interval holds for `tries` at once."""

    def gain(
        self, statistic: Callable[[Sums], Floats], condition: str, over: str, half: Half | None = None, tries: int = 1
    ) -> Estimate | Absent:
        """A condition's number minus another's, paired prompt by prompt, on all prompts or on one half: one selects, one judges."""

    def planned(
        self, statistic: Callable[[Sums], Floats], plan: Plan, over: Plan | None = None, half: Half | None = None, tries: int = 1
    ) -> Estimate | Absent:
        """A number of decoding by a plan, or its ratio to that of another, on all prompts or one half; the interval holds for `tries`."""

    def fresh_band(self, measure: StopMeasure, outside: float) -> tuple[float, float] | None:
        """Between which values a measure of fresh queries lies, but for a share on either side, on the half that selects."""

    @property
    def categories(self) -> Mapping[str, int]:
        """Categories of the prompts with an anchor, each with its number of prompts."""

    def of_category(self, category: str) -> Trace:
        """The same run with the prompts of a category alone."""

    def contrast(
        self, statistic: Callable[[Sums], Floats], combine: Callable[[Floats, Floats], Floats], category: str, tries: int = 1
    ) -> Estimate | Absent:
        """A category's number combined with that of all other prompts; the interval holds for `tries` such numbers at once."""

    def by_stream(self) -> dict[str, tuple[Estimate | Absent, Estimate | Absent]]:
        """For each captured stream and the fused input: RMS, and the RMS of what it adds to the fused input; empty without streams."""


def feeds_back_normed(trace: Trace) -> bool:
    """Whether the head hands on its state behind the final norm, as it is wired in this run."""
    declared = trace.pair.record.get("feedback")
    return (trace.wiring.feedback or (declared and declared.value)) == "normed"


UNTRAINED = "a lookup learns nothing: draft with a trained model on such texts, or without speculation"


def trained(pair: PairCard, fix: str) -> str:
    """What training and serving as trained would mend, in words for this pair's drafter."""
    return UNTRAINED if pair.copies else fix


class Probe(Protocol):
    """One question about a pair."""

    @property
    def name(self) -> str:
        """Its id: the module's name with hyphens, the value in the `probe` column, the heading in reports."""

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes that it judges; on others it may find, skip or withhold something, but never call them sound or open."""

    def conditions(self, pair: PairCard, spec: RunSpec) -> Sequence[Condition]:
        """What to run besides the baseline."""

    def judge(self, trace: Trace) -> Iterator[Said]:
        """What the run says; an axis of `axes` with neither a finding nor a skip is healthy."""


@runtime_checkable
class Cutting(Probe, Protocol):
    """A probe that cannot always run all that is asked of it."""

    def left_out(self, pair: PairCard, spec: RunSpec) -> Sequence[str]:
        """What of the request it does not run, each with the reason in a sentence."""


@runtime_checkable
class Rounds(Probe, Protocol):
    """A probe that looks at numbers before it asks for more."""

    def further(self, trace: Trace) -> Sequence[Condition]:
        """What else to measure after what has been; nothing ends it."""


@runtime_checkable
class Search(Rounds, Protocol):
    """A probe that settles how the drafter is put together for the rest of the battery, before which it asks."""

    def wiring(self, trace: Trace) -> Wiring:
        """The wiring that fits the weights, by a finished search; no change where it is the declared one."""


def lacking(thing: object) -> str:
    """Why something is no probe, empty where it is one."""
    if isinstance(thing, type):
        return f"is a class, expected an object; name an instance of it, such as PROBE = {thing.__name__}()"
    if missing := [member for member in ("name", "axes", "conditions", "judge") if not hasattr(thing, member)]:
        return f"has no {missing[0]}, expected an object with name, axes, conditions and judge (see driftcli.probe.Probe)"
    axes = getattr(thing, "axes", ())
    if not isinstance(axes, tuple) or any(axis not in AXES for axis in axes):
        return f"judges {axes!r}, expected a tuple of {', '.join(AXES)}"
    return ""
