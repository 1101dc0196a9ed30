"""What changes for a drafter when another target stands in the place of the one that it is held against, its twin.

Counted on the twin's own replies, read by either target: the same text, so a draft token can differ through the streams alone. Replies of
both are held against one another besides, where the conversation before them is the same. Sums are (unit,), or (unit, depth) of drafts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftcli.domain import Absent, Estimate
from driftcli.statistics.intervals import Bootstrap, Mapped, Statistic, within
from driftcli.statistics.pooled import NO_ANCHORS
from driftcli.statistics.walks import Floats, Sums, ratio

TWIN, TWIN_REPLIES = "twin", "twin-replies"  # conditions: the rows of the twin's run, and its replies as this target reads them


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


@within(0, 1)
def other_drafts(sums: Sums) -> Floats:
    """Share of the draft tokens that differ on the same text; (draw, depth)."""
    return ratio(sums["other_drafts"], sums["anchors"][:, None])


@within(0, 1)
def lost_matches(sums: Sums) -> Floats:
    """Share of the draft tokens that are right with the twin's streams and wrong with this target's, on the same text; (draw, depth)."""
    return ratio(sums["lost"], sums["anchors"][:, None])


@within(0, 1)
def gained_matches(sums: Sums) -> Floats:
    """Share of the draft tokens that are wrong with the twin's streams and right with this target's, on the same text; (draw, depth)."""
    return ratio(sums["gained"], sums["anchors"][:, None])


@dataclass(frozen=True)
class Shift:
    """Counts of what changes against the twin.

    sums: `replies` behind the same conversation, `parted` of them, and their `common` tokens before they part, (unit,); `anchors` of the
    twin's replies, (unit,), and of the drafts from them `other_drafts`, `lost` and `gained`, (unit, depth). twin, here: either target in
    words. same: it is one target, computed alike. other_wiring: how the drafter is put together otherwise in the two runs, empty if not.
    """

    sums: Sums
    twin: str
    here: str
    same: bool = False
    other_wiring: str = ""
    seed: int = 0

    def estimate(self, statistic: Statistic) -> Estimate | Absent:
        """One of the numbers above with its interval over prompts, the first of several."""
        return self.by_depth(statistic)[0]

    def by_depth(self, statistic: Statistic) -> Sequence[Estimate | Absent]:
        """One number a depth with its interval over prompts."""
        some = np.flatnonzero(self.sums["anchors"])
        if not len(some):
            return [Absent(NO_ANCHORS)]
        draws = Bootstrap.of(len(some), self.seed)
        return draws.estimates(Mapped(self.sums, lambda values: values[some]), statistic)


def signed(change: Estimate | Absent) -> str:
    """A change of a length with its interval, as far as there is one."""
    if change.value is None:
        return "unknown"
    interval = f" [{change.low:+z.2f}, {change.high:+z.2f}]" if isinstance(change, Estimate) else ""
    return f"{change.value:+z.2f}{interval}"
