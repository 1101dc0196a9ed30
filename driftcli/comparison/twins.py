"""A run that was held against its target's twin while it was measured, and what it lost by that, in sentences.

Such a run may be compared with the twin's: they differ in the target on purpose. Two runs of other targets that were not held against one
another are refused, since nothing would say why they differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from driftcli.domain import Absent, Estimate
from driftcli.printable import counted, printable
from driftcli.statistics.shift import CAUSES, PARTS, Cause, Shift, changed, common_tokens, length, parted_share, signed
from driftcli.traces.reader import Run
from driftcli.traces.soundness import mark

WORDS: dict[Cause, str] = {"drafted": "another is drafted", "wanted": "another is wanted", "both": "both are others"}


def held_together(runs: Sequence[Run]) -> bool:
    """Whether the second of two runs was held against the first when it was measured."""
    asked = runs[0].manifest["request"]
    assert isinstance(asked, Mapping)
    return len(runs) == 2 and runs[1].spec.against == mark(asked)


def told(shift: Shift) -> list[str]:
    """Which two targets, what acceptance length loses and why, how many replies and tokens differ."""
    return list(map(printable, _lines(shift)))


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
        return "unknown" if value.value is None else f"{value.value:{form}}"
    return f"{value:{form}}"
