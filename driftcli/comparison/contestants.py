"""Who is ranked: the drafter of each run, and on the very same anchors a lookup of the last tokens in the text and no drafter at all.

A lookup costs no step of a drafter; where it finds nothing it sends nothing, so such a round is a plain step. Where only whole rounds of a
drafter were timed, what a lookup's would take is not known. No drafter is one token a
step, at the speed of plain decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from driftcli.comparison.pairing import Pairing
from driftcli.errors import RunError
from driftcli.statistics.costs import BatchCosts, StepCosts
from driftcli.statistics.walks import EXACT_TEXT, Sums, walk_counts
from driftcli.traces.floors import SHORT, lookup
from driftcli.traces.plans import sent_sums
from driftcli.traces.reader import Run
from driftcli.traces.sums import Grid

LOOKUP, NONE = "lookup", "none"
NGRAM = "n-gram"  # family of the lookup that stands beside the runs


@dataclass(frozen=True)
class Contestant:
    """One way to draft. lengths: `rounds_by_length` and `kept_by_length`, (unit, depth); plan: sums of decoding with so many draft tokens;
    costs: of its steps, None where they are unknown; drafts: whether it proposes anything; told: the draft lengths that its run tells, none
    for all.
    """

    name: str
    family: str
    lengths: Sums
    plan: Callable[[int], Sums]
    costs: BatchCosts | None
    drafts: bool = True
    told: tuple[int, ...] = ()


def contestants(pairing: Pairing, names: Sequence[str]) -> list[Contestant]:
    """The drafters of all runs, then lookup, unless it is among them, and none; raises RunError where replies are not the target's own."""
    if given := next((run for run in pairing.runs if run.argmax_share < EXACT_TEXT), None):
        raise RunError(
            f"{given.path}: its given replies are not the target's own, so no drafter can be ranked on them; let the target write"
        )
    found = [_drafter(pairing, place, name) for place, name in enumerate(names)]
    costs = next((one.costs for one in found if one.costs is not None), None)
    free = replace(costs, draft_first=0.0, draft_step=0.0, draft_read=0.0, turns=None) if isinstance(costs, StepCosts) else None
    floor = [] if any(map(_is_floor, pairing.runs)) else [_lookup(pairing, free)]
    return [*found, *floor, _none(found[0].lengths, free or costs)]


def _is_floor(run: Run) -> bool:
    """Whether a run's drafter is the very lookup that the others are ranked against."""
    return run.pair.copies and run.pair.record["tokens"].value == SHORT


def _drafter(pairing: Pairing, place: int, name: str) -> Contestant:
    run: Run = pairing.runs[place]
    costs = None if run.costs is None or run.costs.deciding.doubt else run.costs.deciding
    return Contestant(
        name, run.pair.family, pairing.sums[place], lambda drafts: pairing.plan(place, drafts), costs, told=tuple(pairing.lengths(place))
    )


def _lookup(pairing: Pairing, costs: BatchCosts | None) -> Contestant:
    grid = pairing.grids[0]["forced"]
    assert grid is not None
    drafted, accepted = _found(grid, pairing.tokens[0], pairing.depth)
    rounds, kept = (np.zeros((grid.units.count, pairing.depth)) for _ in range(2))
    for span in grid.trajectories:
        of_walk = walk_counts(accepted[span], pairing.depth)
        rounds[grid.unit[span.start]] += of_walk[0]
        kept[grid.unit[span.start]] += of_walk[1]
    lengths = {"rounds_by_length": rounds, "kept_by_length": kept}
    return Contestant(LOOKUP, NGRAM, lengths, lambda most: sent_sums(grid, np.minimum(drafted, most), accepted, most), costs)


def _found(grid: Grid, texts: Mapping[tuple[str, int], Sequence[int]], depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Proposals of the lookup at each anchor of a grid, and how many of them are right; (anchor,) each."""
    drafted, accepted = (np.zeros(len(grid.anchor), dtype=np.int64) for _ in range(2))
    for span in grid.trajectories:
        key = grid.units.prompts[grid.prompt[span.start]], int(grid.turn[span.start])
        drafted[span], accepted[span] = lookup(texts[key], int(grid.anchor[span.start]), span.stop - span.start, depth)
    return drafted, accepted


def _none(lengths: Sums, costs: BatchCosts | None) -> Contestant:
    """One token a round: as many rounds as a drafter's tokens, none kept."""
    rounds = lengths["rounds_by_length"] + lengths["kept_by_length"]
    own = {"rounds_by_length": rounds, "kept_by_length": np.zeros_like(rounds)}
    plain = {"rounds_by_sent": rounds[:, :1], "kept": np.zeros(len(rounds)), "anchors": rounds[:, 0]}
    return Contestant(NONE, "plain decoding", own, lambda _: plain, costs, drafts=False)
