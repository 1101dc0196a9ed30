"""What a reader must know beside the numbers: axes that were found sound or stay open, prompts left out, notes of loading, where to go on.

All text that comes from outside (names, ids, claims, paths) leaves this module printable.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from driftcli.domain import AXES, SEVERITIES, AxisState, Verdict
from driftcli.mitigations.healable import healable
from driftcli.printable import counted, few, printable
from driftcli.report.evidence import banner
from driftcli.report.rounding import rounding_lines
from driftcli.report.switches import disagreements
from driftcli.traces.reader import Run

WORST_FIRST: tuple[AxisState, ...] = (*reversed(SEVERITIES[1:]), "inconclusive", "open", "healthy", "not applicable", "not measured")


def axis_lines(verdict: Verdict) -> list[str]:
    """Axes that were found sound, with what says so; those that are open or could not be judged, with the reason unless the headline gave
    it; and those not measured.
    """
    said = verdict.headline
    lines = [
        f"{axis}: {printable(v.reason) if v.state == 'healthy' else f'{v.state}, {printable(v.reason)}'}"
        for axis, v in verdict.axes.items()
        if v.state in ("healthy", "open", "inconclusive", "not applicable") and v.reason and v.reason not in said
    ]
    unmeasured = [axis for axis, v in verdict.axes.items() if v.state == "not measured"]
    return [*lines, *([f"not measured in this run: {', '.join(unmeasured)}"] if unmeasured else [])]


def axis_states(verdict: Verdict) -> str:
    """Every axis with its state, those of one state together, the worst first."""
    by_state = {state: [axis for axis in AXES if axis in verdict.axes and verdict.axes[axis].state == state] for state in WORST_FIRST}
    return "; ".join(f"{state}: {', '.join(axes)}" for state, axes in by_state.items() if axes)


def remarks(run: Run) -> list[str]:
    """Prompts that count as one or are too short, what failed, notes of loading, settings set aside."""
    found = _joined(run)
    if short := run.too_short:
        found.append(f"{counted(len(short), 'prompt')} too short for one chain, left out: {few(short)}")
    found += [
        f"{name} failed, and what it would show is missing: {reason}" for name, reason in run.failed.items() if name not in run.dropped
    ]
    found += [*_drawn(run), *rounding_lines(run)]
    found += [str(note) for note in _items(run, "notes")]
    found += disagreements(run.pair)
    if ignored := _items(run, "ignored_generation_settings"):
        plain = "plain sampling" if run.spec.temperature else "plain greedy decoding"
        found.append(f"the target's own generation settings were set aside for {plain}: {', '.join(map(str, ignored))}")
    return [printable(remark) for remark in found]


def _drawn(run: Run) -> list[str]:
    """Of which rule and temperature the numbers are, where replies are drawn."""
    if not run.spec.temperature:
        return []
    rule = "draft tokens are the drafter's first choices, accepted where they are the token drawn, unless a line says sampled draft tokens"
    beside = "draft lengths, speeds, mitigations and exports are of that rule, probabilities of that temperature"
    return [f"at temperature {run.spec.temperature:g} {rule}: {beside}"]


def _joined(run: Run) -> list[str]:
    """That some prompts count as one, and which."""
    several = [members for members in run.units.members if len(members) > 1]
    if not several:
        return []
    some = "; ".join(map(few, several[:3]))
    more = f" and {len(several) - 3} more" if len(several) > 3 else ""
    return [f"{len(run.prompts)} prompts count as {run.n_prompts}: of one group, or rendered alike, are {some}{more}"]


def _items(run: Run, name: str) -> Sequence[object]:
    items = run.manifest[name]
    assert isinstance(items, list)
    return items


def pointers(run: Run, verdict: Verdict, *, brief: bool = False, looking: bool = False) -> list[str]:
    """Where to go on from here: the whole report, why, what `driftcli heal` mends, all numbers, the raw rows. brief: the reader has not
    seen the whole report. looking: somebody sits before it, who may want the page.
    """
    path = printable(shlex.quote(str(run.path)))
    whole = [f"everything:   driftcli report {path} --full"] if brief else []
    page = [f"as a page:    driftcli report {path} --open"] if looking else []
    why = [f"why:          driftcli explain {verdict.findings[0].code}"] if verdict.findings else []
    heal = [f"heal it:      driftcli heal --run {path} --out healed"] if healable(run, verdict) else []
    return [*page, *whole, *why, *heal, f"all numbers:  driftcli report {path} --format json", f"traces:       {path}/steps/"]


def last_line(verdict: Verdict) -> str:
    """The verdict once more, for whoever sees the end of the report first."""
    opened = [axis for axis, found in verdict.axes.items() if found.state == "open"]
    return "; ".join([f"verdict: {banner(verdict).lower()}", *([f"not settled: {', '.join(opened)}"] if opened else [])])
