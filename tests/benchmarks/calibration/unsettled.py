"""Where an axis is left open, is the number of prompts right that it says would tell?

How many do tell is found by asking: runs over more and more prompts, until four of five leave the axis neither open nor inconclusive.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from driftcli.domain import AxisVerdict
from driftcli.statistics.grades import MOST_TIMES
from tests.benchmarks.calibration.effort import Effort
from tests.benchmarks.calibration.power import Planting, axis_verdicts
from tests.benchmarks.calibration.regimes import CATEGORIES
from tests.benchmarks.calibration.shares import Bound, Share, Table

TOLD = 0.8  # share of runs that must settle an axis for so many prompts to be told enough
WITHIN = 2.0  # times, by which a number of prompts may be off
RIGHT = 0.9  # of numbers, at least
LADDER = (24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)  # prompts tried, one after the other


def table(effort: Effort) -> Table:
    """The numbers of prompts named at several sizes against those that were needed."""
    told = Table("open axes: prompts that would tell, named (median) and needed; % of numbers within a factor of two")
    for name, axis, loss in effort.open:
        planting = Planting(name, axis, loss)
        needed = _needed(planting, effort)
        for size in effort.open_sizes:
            _row(told, planting, size, needed, axis_verdicts(planting, size, effort))
    return told


def _row(told: Table, planting: Planting, size: int, needed: int | None, found: list[AxisVerdict]) -> None:
    open = [one for one in found if one.state == "open"]
    named = [None if one.more_prompts is None else _whole(planting, size, one.more_prompts) for one in open]
    right = Share.of(_is_right(number, needed, size) for number in named)
    known = [number for number in named if number is not None]
    middle = f"{np.median(known):.0f}" if known else "none"
    told.row(f"{planting}, {size} prompts", [f"{len(open)} open", f"{middle} named", f"{needed or 'none'} needed", right])
    if open:
        told.bounds.append(Bound(f"{planting}, {size} prompts, number named", right, at_least=RIGHT))


def _whole(planting: Planting, size: int, more: int) -> int:
    """Prompts of a run that has so many more; of domains they are counted a category."""
    return size + more * (len(CATEGORIES) if planting.axis == "domain" else 1)


def _is_right(named: int | None, needed: int | None, size: int) -> bool:
    """Whether what is named is within a factor of two; that none would do, where more are needed than would be named, or nearly so."""
    if named is None:
        return needed is None or needed * WITHIN >= MOST_TIMES * size
    return needed is not None and needed / WITHIN <= named <= needed * WITHIN


def _needed(planting: Planting, effort: Effort) -> int | None:
    """Prompts from which on most runs settle the axis, None where no number tried is enough."""
    fewer, share = LADDER[0], 0.0
    for size in (one for one in LADDER if one <= effort.most_prompts):
        states = [one.state for one in axis_verdicts(planting, size, replace(effort, runs_of_axis=effort.runs_needed))]
        settled = sum(state not in ("open", "inconclusive") for state in states) / len(states)
        if settled >= TOLD:
            part = (TOLD - share) / (settled - share)
            return int(fewer * (size / fewer) ** part)
        fewer, share = size, settled
    return None
