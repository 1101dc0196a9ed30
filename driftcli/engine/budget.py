"""What a run leaves out to keep to a time: which conditions, in which order, and how few prompts at last.

The order goes by what a person loses. The baseline and the search for the wiring always stay: without them no number means anything.
First go the conditions that `--quick` leaves out, those first that only refine what others say; then prompts, down to what `--quick` takes,
since intervals widen slowly; then the rest of the short battery; then prompts again, down to the fewest on which anything is judged. What
shares its texts goes at once, since making the texts is most of its time; of a probe, what it asked for last goes first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from driftcli.conditions import Condition
from driftcli.durations import told
from driftcli.engine.agenda import Agenda, sharing_texts
from driftcli.errors import UsageError
from driftcli.printable import few
from driftcli.statistics.walks import MINIMAL_PROMPTS
from driftcli.traces.layout import MANIFEST
from probes import QUICK

REFINING = (  # probes of what --quick leaves out, those first that go first (chosen by us); what is not named here goes last
    "noise", "magnitude", "system-prompt", "sampling", "chain-length", "mitigations", "controls", "template", "context-length",
)  # fmt: skip
SHORT = ("switches", "mitigations", "template", "held-state")  # the same of the short battery
ENOUGH_PROMPTS = 24  # down to which prompts go before the short battery does: those that --quick takes (chosen by us)


@dataclass(frozen=True)
class Budgeted:
    """What was left out to keep to a time, decided once: names of conditions, and how many prompts were kept of so many offered.

    seconds: the time that was given.
    """

    seconds: int
    dropped: tuple[str, ...]
    prompts: int
    offered: int


def fit(seconds: int, agenda: Agenda, prompts: int, takes: Callable[[Agenda, int], float]) -> Budgeted:
    """What must go for a run of these conditions and so many prompts to take at most `seconds`.

    takes: seconds of an agenda on the first prompts. Raises UsageError where not even the least that can be judged fits.
    """
    refining, short = _steps(agenda)
    fewest = min(prompts, MINIMAL_PROMPTS)
    found, kept = agenda, prompts
    for steps, least in ((refining, min(prompts, ENOUGH_PROMPTS)), (short, fewest)):
        for step in steps:
            if takes(found, kept) <= seconds:
                break
            found = replace(found, dropped=(*found.dropped, *(condition.name for condition in step)))
        kept = _most(lambda count, found=found: takes(found, count) <= seconds, least, kept)  # type: ignore[misc]
    if takes(found, kept) > seconds:
        raise UsageError(
            f"--budget of {told(seconds)}: the baseline and the search for the wiring on {kept} prompts, which always stay, take about "
            f"{told(round(takes(found, kept)))} here; allow that much, or ask for shorter replies (--max-new-tokens)"
        )
    return Budgeted(seconds, tuple(found.dropped), kept, prompts)


def _steps(agenda: Agenda) -> tuple[list[list[Condition]], list[list[Condition]]]:
    """What goes together, in the order in which it goes: of what `--quick` leaves out, and of what it runs."""
    quick = replace(agenda, spec=replace(agenda.spec, quick=True), battery=[probe for probe in agenda.battery if probe.name in QUICK])
    names = {condition.name for condition in quick.asked()}
    asked = agenda.asked()
    refining, short = ([one for one in asked if (one.name in names) is inside] for inside in (False, True))
    return _ordered(refining, REFINING), _ordered(short, SHORT)


def _ordered(conditions: Sequence[Condition], order: Sequence[str]) -> list[list[Condition]]:
    probes = dict.fromkeys(condition.probe for condition in conditions)
    ranked = sorted(probes, key=lambda name: order.index(name) if name in order else len(order))
    groups = (sharing_texts(one for one in conditions if one.probe == probe) for probe in ranked)
    return [group for by_text in groups for group in reversed(list(by_text.values()))]


def _most(fits: Callable[[int], bool], least: int, most: int) -> int:
    """The largest number from `least` to `most` that fits, `least` where none does."""
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if fits(middle) else (least, middle - 1)
    return least


def budget_of(folder: Path, seconds: int) -> Budgeted | None:
    """What the run in a folder left out to keep to the same time, None where there is no such run or it cannot be read."""
    try:
        request = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["request"]["budget"]
        found = Budgeted(request["seconds"], tuple(map(str, request["dropped"])), request["prompts"], request["offered"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    counts = (found.prompts, found.offered)
    return found if found.seconds == seconds and all(type(count) is int and count > 0 for count in counts) else None


def left_out(budget: Budgeted, conditions: Sequence[Condition]) -> list[str]:
    """What a budget left out and why, a line a probe, and how many of the prompts it kept."""
    by_probe: dict[str, list[str]] = {}
    for condition in conditions:
        if condition.name in budget.dropped:
            by_probe.setdefault(condition.probe, []).append(condition.name)
    lines = [f"{probe}: {few(names)} left out to keep to {told(budget.seconds)} (--budget)" for probe, names in by_probe.items()]
    fewer = f"{budget.prompts} of {budget.offered} prompts to keep to {told(budget.seconds)} (--budget): intervals are wider"
    return [*lines, *([fewer] if budget.prompts < budget.offered else [])]
