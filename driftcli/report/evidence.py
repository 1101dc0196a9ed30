"""What every report for a person shows, before any layout: the facts of the run, its curves by depth, what to do, what is left open.

All text that comes from outside (names, ids, claims, paths) leaves this module printable.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from driftcli import curves
from driftcli.codes import BY_NAME
from driftcli.domain import BASELINE, SHARES, SYSTEMS, Absent, Estimate, Finding, Verdict
from driftcli.mitigations.probe import MITIGATED
from driftcli.printable import printable
from driftcli.report.switches import SYSTEM_NAMES, disagreements
from driftcli.report.verdict import GRADED
from driftcli.stats import EXACT_TEXT, Floats, Sums
from driftcli.traces.reader import Run

SHOWN_DEPTHS = 8  # columns that fit 100 characters; a deeper chain shows a selection
REGION_MEANING: dict[str, str] = {
    "template": "chat markup",
    "prompt": "message content",
    "verified": "reply so far",
    "ahead": "its own drafts",
    "recent": "last 4 keys, any region",
}
Form = Literal["percent", "low", "high", "times", "number", "points"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table by depth, as text: its name, a cell for each shown depth, and a remark."""

    name: str
    cells: Sequence[str]
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a table by depth: its name, its numbers, how they are written, and a remark."""

    name: str
    statistic: Callable[[Sums], Floats]
    form: Form
    remark: str = ""

    def row(self, run: Run) -> Row:
        """The line of a run."""
        return Row(self.name, shown(run.by_depth(self.statistic), self.form), self.remark)


def shown(values: Sequence[Estimate | Absent], form: Form) -> list[str]:
    """Numbers by depth at the depths that a table shows, as text."""
    return [_FORMS[form](values[depth - 1]) for depth in shown_depths(len(values))]


def shown_depths(depth: int) -> list[int]:
    """Depths that a table shows: all where they fit, else the first three and an even choice up to the last."""
    if depth <= SHOWN_DEPTHS:
        return list(range(1, depth + 1))
    rest = SHOWN_DEPTHS - 3
    return [1, 2, 3, *(3 + round((depth - 3) * step / rest) for step in range(1, rest + 1))]


def banner(verdict: Verdict) -> str:
    """The severity in capitals, what is sure and what is most likely, and that it is drift where the drift axis decided it; `healthy` is
    claimed for what was measured only.
    """
    drift = verdict.axes["drift"]
    if verdict.severity == "not applicable":
        return "DRIFT NOT APPLICABLE"
    if verdict.severity == "healthy":
        whole = all(axis.state in ("healthy", "not applicable") for axis in verdict.axes.values())
        return "HEALTHY" if whole else "NO DRIFT FOUND" if drift.state == "open" else "NO DRIFT"
    deciding = next((axis for axis in verdict.axes.values() if axis.state == verdict.severity), drift)
    sure = f"AT LEAST {verdict.severity.upper()}" if deciding.likely not in (None, verdict.severity) else verdict.severity.upper()
    likely = f" (most likely {deciding.likely})" if sure.startswith("AT LEAST") else ""
    graded = drift.state == verdict.severity and drift.state in GRADED
    return f"{sure}{' DRIFT' * graded}{likely}"


def pair_line(run: Run) -> str:
    """Target and drafter by name."""
    return f"{printable(run.pair.target.name)}  <-  {printable(run.pair.drafter.name)}"


def facts_line(run: Run) -> str:
    """How the run was measured: prompts, depth, decoding, precision, device, time, and how the head is wired."""
    request = run.manifest["request"]
    assert isinstance(request, Mapping)
    facts = [
        counted(len(run.prompts), "prompt"),
        f"depth {run.spec.depth}",
        "greedy" if all(run.trajectories["generated"].to_pylist()) else "given replies",
        f"{request['dtype']} on {request['device']}",
        *_duration(run),
    ]
    feedback, norms = run.pair.record.get("feedback"), run.pair.record.get("pre_fc_norm")
    reading = run.pair.record.get("reading")
    facts += [f"reading: {SYSTEM_NAMES[str(reading.value)]}"] if reading and reading.value != SYSTEMS[0] else []
    facts += [f"feedback {feedback.value}", f"norms before fc: {norms.value}"] if feedback and norms else []
    return printable(" · ".join(facts))


def _duration(run: Run) -> list[str]:
    started, finished = run.manifest.get("started"), run.manifest.get("finished")
    if not isinstance(started, str) or not isinstance(finished, str):
        return []
    seconds = round((datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds())
    minutes, seconds = divmod(max(seconds, 0), 60)
    hours, minutes = divmod(minutes, 60)
    return [f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"]


def length_lines(run: Run) -> list[str]:
    """Acceptance length under the name it may claim, tokens a round of whole replies, and what curing self-feeding could give at most."""
    why = f" (the target's own choice at only {run.argmax_share:.0%} of the tokens)" if run.argmax_share < EXACT_TEXT else ""
    lines = [f"{length_name(run)}{why} {_interval(run.estimate(curves.walk_acceptance_length), '.2f')}"]
    if run.reference != BASELINE:
        declared = _interval(run.estimate(curves.walk_acceptance_length, BASELINE), ".2f")
        lines = [f"{lines[0]} with {printable(str(run.wiring))}, which all below is measured on; as declared {declared}"]
    if isinstance(emitted := run.emitted_per_round, Estimate):
        lines.append(f"{_interval(emitted, '.2f')} tokens a round to the end of each reply")
    if run.pair.no_recursion is None:
        lines.append(f"self-feeding costs at most {_interval(curves.estimate_tax(run), 'z.0%')} of what fresh states would get accepted")
    return lines


def main_curves(run: Run) -> list[Curve]:
    """Right guesses, what compounding costs, and what the state does; for a drafter without recursion only its guesses."""
    kept = Curve("kept, all so far", curves.joint_walk, "percent", "over the walk")
    if run.pair.no_recursion is not None:
        return [Curve("right guess", curves.forced_accuracy, "percent", "every depth is fresh"), kept]
    handed = run.estimate(curves.handoff)
    cost = f"handing off costs {handed.value:z.0%}" if isinstance(handed, Estimate) else ""
    return [
        Curve("right when fresh", curves.fresh_accuracy, "percent", "its capacity"),
        Curve("right on own state", curves.forced_accuracy, "percent", cost),
        Curve("compounding", curves.compounding, "percent", "loss beyond the hand-off"),
        Curve("  95% low", curves.compounding, "low"),
        Curve("  95% high", curves.compounding, "high"),
        kept,
        Curve("state RMS", curves.rms_ratio, "times", "against the fresh state"),
        Curve("state cosine", curves.state_cosine, "number", "with the fresh state"),
    ]


def attention_curves(run: Run) -> tuple[str, list[Curve]]:
    """A heading, and attention by region: its change against the control, or plain shares where there is no control."""
    with_sink, texts = run.sink_texts
    meaning = {**REGION_MEANING, "sink": f"a row in {with_sink} of {counted(texts, 'text')}"}
    if run.pair.no_recursion is None:
        heading = "attention moved by self-feeding, in points of share against the fresh query on the same tokens"
        return heading, [Curve(name, curves.region_change(name), "points", meaning[name]) for name in SHARES]
    heading = "attention of the drafter, share of each region"
    return heading, [Curve(name, curves.share("forced", name), "percent", meaning[name]) for name in SHARES]


def condition_rows(run: Run) -> list[tuple[str, str, str, str]]:
    """Of each condition as deep as the run: probe, name, acceptance length, and accepted drafts over those of what it is held against,
    paired. Shallower ones settle how the drafter is put together and say so elsewhere, as mitigations do. Sampled replies have a second
    row, for drafts that are sampled too.
    """
    rows = []
    for probe, name in run.conditions:
        if name == run.reference or run.depth_of(name) != run.spec.depth or probe == MITIGATED:
            continue
        length, kept = run.estimate(curves.walk_acceptance_length, name), run.ratio_to_baseline(curves.accepted_drafts, name)
        sampled = run.is_sampled(name)
        words = f"{name}, greedy drafts" if sampled else name
        known = "unknown" if isinstance(length, Absent) else _interval(length, ".2f")
        rows.append((probe, words, known, f"{_interval(kept, 'z.0%')}{_own_count(run, kept)}"))
        if sampled:
            rows.append((probe, f"{name}, sampled drafts", _interval(run.estimate(curves.sampled_length, name), ".2f"), ""))
    return [(printable(probe), printable(name), *numbers) for probe, name, *numbers in rows]  # type: ignore[misc]


def length_name(run: Run) -> str:
    """What the acceptance length may be called: on given replies it is none."""
    return "acceptance length" if run.argmax_share >= EXACT_TEXT else "text match length"


def grade(finding: Finding) -> str:
    """A finding's severity in the word that reports show, with a plus where more than that is most likely."""
    return "note" if finding.severity == "healthy" else f"{finding.severity}{'+' * (finding.likely not in (None, finding.severity))}"


def to_do(verdict: Verdict, shorter_draft: str) -> dict[str, list[str]]:
    """Each advice once, with the codes that ask for it, in the order of the findings; before them to draft fewer tokens, where a drift asks
    for that and it is worth it. What an undecided axis asks for comes first, and all else only if that proves right.
    """
    first: dict[str, list[str]] = {printable(axis.fix): [name] for name, axis in verdict.axes.items() if axis.fix}
    advice = _advice(verdict, shorter_draft)
    return {**first, **{f"if that changes nothing: {one}" if first else one: codes for one, codes in advice.items()}}


def _advice(verdict: Verdict, shorter_draft: str) -> dict[str, list[str]]:
    drifts = [one.code for one in verdict.findings if BY_NAME[one.code].axis == "drift" and one.severity != "healthy"]
    advice: dict[str, list[str]] = {printable(shorter_draft): list(dict.fromkeys(drifts))} if drifts and shorter_draft else {}
    for finding in verdict.findings:
        advice.setdefault(printable(finding.fix), []).append(finding.code)
    return advice


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


def remarks(run: Run) -> list[str]:
    """What a reader must know beside the numbers: depths left out, prompts too short, notes of loading, settings set aside."""
    found = []
    if run.spec.depth > SHOWN_DEPTHS:
        found.append(f"{SHOWN_DEPTHS} of {run.spec.depth} depths are shown; --format json has all")
    found += _joined(run)
    if short := run.too_short:
        names = ", ".join(short[:5]) + (" ..." if len(short) > 5 else "")
        found.append(f"{counted(len(short), 'prompt')} too short for one chain, left out: {names}")
    found += [f"{name} failed, and what it would show is missing: {reason}" for name, reason in run.failed.items()]
    found += [str(note) for note in _listed(run, "notes")]
    found += disagreements(run.pair)
    if ignored := _listed(run, "ignored_generation_settings"):
        found.append(f"the target's own generation settings were set aside for plain greedy decoding: {', '.join(map(str, ignored))}")
    return [printable(remark) for remark in found]


def _joined(run: Run) -> list[str]:
    """That some prompts count as one, and which."""
    several = [members for members in run.units.members if len(members) > 1]
    if not several:
        return []
    some = "; ".join(", ".join(members[:5]) + (" ..." if len(members) > 5 else "") for members in several[:3])
    more = f" and {len(several) - 3} more" if len(several) > 3 else ""
    return [f"{len(run.prompts)} prompts count as {run.n_prompts}: of one group, or rendered alike, are {some}{more}"]


def pointers(run: Run, verdict: Verdict) -> list[str]:
    """Where to go on from here: why, all numbers, the raw rows."""
    path = printable(shlex.quote(str(run.path)))
    why = [f"why:          driftcli explain {verdict.findings[0].code}"] if verdict.findings else []
    return [*why, f"all numbers:  driftcli report {path} --format json", f"traces:       {path}/steps/"]


def counted(number: int, noun: str, several: str = "") -> str:
    """`1 prompt`, `2 prompts`; `several` where it is more than an s."""
    return f"{number} {noun if number == 1 else several or f'{noun}s'}"


def _listed(run: Run, name: str) -> Sequence[object]:
    items = run.manifest[name]
    assert isinstance(items, list)
    return items


def _own_count(run: Run, value: Estimate | Absent) -> str:
    """Of how many prompts a number is, where they are not the run's."""
    return "" if isinstance(value, Absent) or value.n_prompts == run.n_prompts else f" of {counted(value.n_prompts, 'prompt')}"


def _interval(value: Estimate | Absent, form: str) -> str:
    if isinstance(value, Absent):
        return f"unknown ({value.reason})"
    return f"{value.value:{form}} [{value.low:{form}}, {value.high:{form}}]"


_FORMS: dict[Form, Callable[[Estimate | Absent], str]] = {
    "percent": lambda value: "-" if isinstance(value, Absent) else f"{value.value:z.0%}",
    "low": lambda value: "" if isinstance(value, Absent) else f"{value.low:z.0%}",
    "high": lambda value: "" if isinstance(value, Absent) else f"{value.high:z.0%}",
    "times": lambda value: "-" if isinstance(value, Absent) else f"{value.value:.2f}x",
    "number": lambda value: "-" if isinstance(value, Absent) else f"{value.value:z.2f}",
    "points": lambda value: "-" if isinstance(value, Absent) else f"{100 * value.value:+z.1f}",
}
