"""What changes against the twin that a run is held against, in lines for people and as plain values for scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from driftcli.domain import Absent, Estimate
from driftcli.printable import counted, printable
from driftcli.report.evidence import TOO_FEW
from driftcli.statistics.shift import CAUSES, PARTS, STAGES, Cause, Shift, changed, common_tokens, length, parted_share, signed
from driftcli.traces.reader import Run
from driftcli.traces.writer import Plain

HEADING = "Against the twin"
CHANGED = ("drafted", "wanted", *(f"{what}_{cause}" for what in ("lost", "gained") for cause in CAUSES))
WORDS: dict[Cause, str] = {"drafted": "another is drafted", "wanted": "another is wanted", "both": "both are others"}


def shift_lines(run: Run) -> list[str]:
    """Which two targets, what acceptance length loses and why, how many replies and tokens differ; nothing of a run without a twin."""
    return [] if run.shift is None else [printable(line) for line in _lines(run.shift)]


def _lines(shift: Shift) -> Iterator[str]:
    yield f"target here: {shift.here}"
    yield f"its twin: {shift.twin}"
    if shift.other_wiring:
        yield f"not compared: the head is put together otherwise, {shift.other_wiring}"
        return
    there, here = (shift.estimate(length(stage)) for stage in ("twin", "here"))
    yield f"acceptance length {_shown(here, '.2f')}, with the twin {_shown(there, '.2f')}: {signed(shift.change('twin', 'here'))}"
    yield f"of that {', '.join(f'{signed(shift.change(before, after))} by {words}' for words, before, after in PARTS)}"
    yield _replies(shift)
    wanted, drafted = (shift.estimate(changed(name)) for name in ("wanted", "drafted"))
    first = f"of the first draft tokens on the twin's replies {_shown(drafted, '.1%')} are others"
    yield f"{first}, of the wanted tokens {_shown(wanted, '.1%')}"
    for what, words in (("lost", "right with the twin alone"), ("gained", "right here alone")):
        shares = {cause: shift.estimate(changed(f"{what}_{cause}")).value for cause in CAUSES}
        yield f"{words}: {', '.join(f'{value:.1%} where {WORDS[cause]}' for cause, value in shares.items() if value is not None)}"


def _replies(shift: Shift) -> str:
    parted, replies = (int(shift.sums[name].sum()) for name in ("parted", "replies"))
    after = shift.estimate(common_tokens) if parted else Absent("")
    where = "" if after.value is None else f"; they part after {after.value:.0f} tokens on average"
    whole = counted(replies, "reply", "replies")
    return f"{parted} of {whole} behind the same conversation differ, {_shown(shift.estimate(parted_share), '.0%')}{where}"


def _shown(value: Estimate | Absent, form: str) -> str:
    if isinstance(value, Absent):
        return "unknown" if value.value is None else f"{value.value:{form}} ({TOO_FEW})"
    return f"{value:{form}}"


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
