"""What changes against the twin that a run is held against, in lines for people and as plain values for scripts."""

from __future__ import annotations

from collections.abc import Callable

from driftcli.comparison.twins import told
from driftcli.domain import Absent, Estimate
from driftcli.statistics.shift import CAUSES, PARTS, STAGES, changed, common_tokens, length, parted_share
from driftcli.traces.reader import Run
from driftcli.traces.writer import Plain

HEADING = "Against the twin"
CHANGED = ("drafted", "wanted", *(f"{what}_{cause}" for what in ("lost", "gained") for cause in CAUSES))


def shift_lines(run: Run) -> list[str]:
    """What changes against the run's twin, in the words of a comparison too; nothing of a run without one."""
    return [] if run.shift is None else told(run.shift)


def shift_json(run: Run, number: Callable[[Estimate | Absent], Plain]) -> Plain:
    """The same as plain values, all shares of guesses by depth; None of a run without a twin."""
    shift = run.shift
    if shift is None:
        return None
    by_depth = {name: shift.by_depth(changed(name)) for name in CHANGED}
    return {
        "target": shift.here,
        "twin": shift.twin,
        "same_target": shift.same,
        "other_wiring": shift.other_wiring or None,
        "acceptance_length": {stage: number(shift.estimate(length(stage))) for stage in STAGES},
        "accepted_drafts_kept": number(shift.kept()),
        "change": number(shift.change("twin", "here")),
        "change_by": {words.replace(" ", "_"): number(shift.change(before, after)) for words, before, after in PARTS},
        "replies": {
            **{name: int(shift.sums[name].sum()) for name in ("replies", "parted")},
            "share": number(shift.estimate(parted_share)),
            "common_tokens": number(shift.estimate(common_tokens)),
        },
        "by_depth": [
            {"depth": depth, **{name: number(values[depth - 1]) for name, values in by_depth.items()}}
            for depth in range(1, run.spec.depth + 1)
        ],
    }
