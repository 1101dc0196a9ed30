"""What changes for a drafter when another target stands in the place of the one that it is held against, its twin.

On the twin's own replies, read by either target, the text is the same: so a draft token differs because the streams that the drafter reads
do, and a wanted one because the target chooses otherwise there. Four acceptance lengths part the whole change, each on its own walk:

- `twin`: the twin's draft tokens against what the twin wants.
- `streams`: this target's draft tokens where both want the same token, else the twin's guess as it fared: nothing but streams can differ.
- `tokens`: this target's draft tokens against what this target wants at each place of the twin's replies.
- `here`: this target on its own replies, whose text is another behind the first token that differs.

From each to the next other streams, other wanted tokens and other text cost; the three add up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from driftcli.domain import Absent, Estimate
from driftcli.statistics.intervals import Bootstrap, Bounded, Mapped, Statistic, tokens_a_round, within
from driftcli.statistics.pooled import NO_ANCHORS
from driftcli.statistics.walks import Floats, Sums, acceptance_length, ratio

TWIN, TWIN_REPLIES = "twin", "twin-replies"  # conditions: the rows of the twin's run, and its replies as this target reads them
Stage = Literal["twin", "streams", "tokens", "here"]
STAGES: tuple[Stage, ...] = ("twin", "streams", "tokens", "here")
PARTS: tuple[tuple[str, Stage, Stage], ...] = (  # what a step between two stages costs, in words
    ("other hidden states", "twin", "streams"),
    ("other wanted tokens", "streams", "tokens"),
    ("other text behind them", "tokens", "here"),
)
Cause = Literal["drafted", "wanted", "both"]  # what differs where a guess is right with one target alone
CAUSES: tuple[Cause, ...] = ("drafted", "wanted", "both")


def parting(first: Sequence[int], second: Sequence[int]) -> int | None:
    """The place of the first token in which two replies differ, None where they are the same; a longer one differs at the other's end."""
    if list(first) == list(second):
        return None
    same = min(len(first), len(second))
    return next((place for place in range(same) if first[place] != second[place]), same)


@within(0, 1)
def parted_share(sums: Sums) -> Floats:
    """Share of the replies to the same conversation that differ; (draw,)."""
    return ratio(sums["parted"], sums["replies"])


def common_tokens(sums: Sums) -> Floats:
    """Reply tokens before the first that differs, mean over the replies that do; (draw,)."""
    return ratio(sums["common"], sums["parted"])


def changed(name: str) -> Bounded:
    """Share of the guesses on the twin's replies of which a count tells; (draw, depth)."""
    return within(0, 1)(lambda sums: ratio(sums[name], sums["anchors"][:, None]))


def length(stage: Stage) -> Statistic:
    """Acceptance length of a stage; (draw,)."""
    most = tokens_a_round(lambda sums: float(sums["drafted"].shape[-1] + 1))
    return most(lambda sums: acceptance_length(sums[f"{stage}_rounds"], sums[f"{stage}_kept"]))


def accepted(stage: Stage) -> Statistic:
    """Drafts kept a round of a stage; (draw,)."""
    return lambda sums: length(stage)(sums) - 1


@dataclass(frozen=True)
class Shift:
    """Counts of what changes against the twin.

    sums: (unit,) each, `replies` behind the same conversation, `parted` of them, and their `common` tokens before they part; `anchors` of
    the twin's replies; `rounds` and `kept` drafts of each stage's walk, as `twin_rounds`. (unit, depth) each, of the guesses from those
    anchors `drafted` and `wanted`, which differ, and by what differs `lost_drafted`, `gained_both` and so on, which are right with the twin
    alone or with this target alone. twin, here: either target in words. same: it is one target, computed alike. other_wiring: how the
    drafter is put together otherwise in the two runs, empty if not.
    """

    sums: Sums
    twin: str
    here: str
    same: bool = False
    other_wiring: str = ""
    seed: int = 0

    @cached_property
    def _some(self) -> Sums:
        """Sums of the units that have anchors with either target."""
        some = np.flatnonzero((self.sums["anchors"] > 0) & (self.sums["here_rounds"] > 0))
        return Mapped(self.sums, lambda values: values[some])

    def _draws(self) -> Bootstrap | None:
        units = len(self._some["anchors"])
        return Bootstrap.of(units, self.seed) if units else None

    def estimate(self, statistic: Statistic) -> Estimate | Absent:
        """One of the numbers above with its interval over prompts."""
        return self.by_depth(statistic)[0]

    def by_depth(self, statistic: Statistic) -> Sequence[Estimate | Absent]:
        """One of the shares of guesses, a number a depth, depth 1 first."""
        draws = self._draws()
        return [Absent(NO_ANCHORS)] if draws is None else draws.estimates(self._some, statistic)

    @property
    def nothing_differs(self) -> bool:
        """Whether every reply, every draft token and every wanted one is the twin's."""
        return not any(self.sums[name].any() for name in ("parted", "drafted", "wanted"))

    def kept(self) -> Estimate | Absent:
        """Accepted drafts a round over the twin's, paired prompt by prompt."""
        return self._compared(accepted, "here", "twin", ratio)

    def change(self, before: Stage, after: Stage) -> Estimate | Absent:
        """Acceptance length of a stage less that of another, paired prompt by prompt."""
        return self._compared(length, after, before, np.subtract)

    def _compared(
        self, number: Callable[[Stage], Statistic], after: Stage, before: Stage, combine: Callable[[Floats, Floats], Floats]
    ) -> Estimate | Absent:
        draws = self._draws()
        if draws is None:
            return Absent(NO_ANCHORS)
        return draws.compared(self._some, self._some, number(after), combine, other=number(before))


def signed(change: Estimate | Absent) -> str:
    """A change of a length with its interval, as far as there is one."""
    if change.value is None:
        return "unknown"
    interval = f" [{change.low:+z.2f}, {change.high:+z.2f}]" if isinstance(change, Estimate) else ""
    return f"{change.value:+z.2f}{interval}"
