"""What the page says, section by section, as plain values: every number as the JSON report has it, so that no two reports disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from driftcli.codes import BY_NAME, CODES, Code
from driftcli.conditions import BASELINE
from driftcli.domain import AXES, SEVERITIES, SYSTEM_NAMES, Axis, AxisState, AxisVerdict, Finding, Verdict
from driftcli.mitigations.trials import Outcome
from driftcli.report import advice, evidence, notes, remedies, shift, speeds, survival
from driftcli.report.html import curves, forests
from driftcli.report.html.charts import Chart, Forest, Lines
from driftcli.report.html.heads import Heads, by_head
from driftcli.report.html.numbers import FORMS, Form, Node, Number, length, of, read
from driftcli.report.json import report as json_report
from driftcli.report.switches import SWITCHES, written
from driftcli.report.tables import Row
from driftcli.statistics.walks import EXACT_TEXT
from driftcli.terms import TERMS, Term
from driftcli.traces.reader import Run
from driftcli.traces.sums import cells
from driftcli.traces.writer import Plain

PLACES: dict[str, str] = {  # the section that shows what an axis is judged by
    "wiring": "wiring",
    "drift": "depth",
    "template": "conditions",
    "context": "length",
    "domain": "conditions",
    "capacity": "depth",
    "payoff": "speed",
}


@dataclass(frozen=True, slots=True)
class Key:
    """A number of the first screen: what it is called, the number, its interval, and a line about it."""

    name: str
    value: str
    interval: str
    remark: str


@dataclass(frozen=True, slots=True)
class Head:
    """The first screen."""

    target: str
    drafter: str
    facts: str
    severity: str
    banner: str
    headline: str
    open: str
    keys: Sequence[Key]
    lines: Sequence[str]
    todo: Sequence[tuple[str, Sequence[str]]]
    axes: Sequence[tuple[Axis, AxisVerdict]]


@dataclass(frozen=True, slots=True)
class Found:
    """A finding with the ids of its place and of its evidence in the page, its grade, its number as text, and what its code stands for."""

    id: str
    finding: Finding
    grade: str
    number: str
    place: str
    code: Code


@dataclass(frozen=True, slots=True)
class Wired:
    """How the drafter is put together: its record, what other systems do otherwise, the target's streams, and other wirings."""

    record: Sequence[tuple[str, str, str]]
    others: Sequence[tuple[str, Sequence[tuple[str, str, str]]]]
    refused: Sequence[tuple[str, str]]
    streams: Sequence[tuple[str, str, str]]
    tried: Forest | None
    note: str


@dataclass(frozen=True, slots=True)
class Parts:
    """All sections in order."""

    head: Head
    guesses: Lines
    compounding: Lines | None
    state: Sequence[Lines]
    no_state: str
    no_attention: str
    attention: Sequence[Lines]
    heads: Heads
    positions: Sequence[Lines]
    contexts: Lines | None
    survival: Sequence[tuple[Lines, Sequence[Row]]]
    stopping: Sequence[str]
    conditions: Forest | None
    against: Sequence[str]
    side_by_side: bool
    copies: bool
    mitigations: Forest | None
    trials: str
    further: Sequence[tuple[str, Sequence[str]]]
    speeds: Sequence[Lines]
    no_speed: str
    payoff: Sequence[str]
    wired: Wired
    findings: Sequence[Found]
    sound: Sequence[tuple[Axis, AxisVerdict]]
    unsettled: Sequence[tuple[Axis, AxisVerdict]]
    unjudged: Sequence[tuple[Axis, AxisVerdict]]
    failed: Sequence[tuple[str, str]]
    remarks: Sequence[str]
    exports: Sequence[tuple[str, str]]
    identity: Sequence[tuple[str, str]]
    request: Sequence[tuple[str, str]]
    versions: Sequence[tuple[str, str]]
    pointers: Sequence[str]
    whole_request: Mapping[str, Plain]
    codes: Sequence[Code] = CODES
    terms: Sequence[Term] = TERMS

    @property
    def charts(self) -> dict[str, Plain]:
        """What the page's script draws, by the id of its place."""
        single: list[Chart | None] = [self.guesses, self.compounding, self.contexts, self.conditions, self.mitigations, self.wired.tried]
        several: list[Chart | None] = [*self.state, *self.attention, *self.positions, *self.speeds, self.heads.heat]
        several += [chart for chart, _ in self.survival]
        return {one.id: one.plain() for one in (*single, *several) if one is not None}


def content(run: Run, verdict: Verdict) -> Parts:
    """All that the page says of a run."""
    found = remedies.tried(run)
    report: Node = json_report(run, verdict, found)
    baseline: Node = report["rewired"] or report["baseline"]
    alone = run.pair.no_recursion
    return Parts(
        head=_head(run, verdict, report, baseline, found),
        guesses=curves.by_depth(run, baseline),
        compounding=None if alone else curves.compounding(baseline),
        state=[] if alone else curves.state(baseline),
        no_state=alone or "",
        no_attention="" if run.pair.attends else str(run.pair.no_attention),
        attention=curves.attention(run, baseline),
        heads=by_head(run),
        positions=[one for one in (curves.positions(baseline), curves.kept_by_position(baseline)) if one],
        contexts=curves.contexts(report),
        survival=[(chart, rows) for chart, (_, rows) in zip(curves.survival(report), survival.survival_tables(run), strict=True)],
        stopping=survival.survival_lines(run, found),
        conditions=forests.conditions(report),
        against=shift.shift_lines(run),
        side_by_side=run.pair.guesses_side_by_side,
        copies=run.pair.copies,
        mitigations=forests.mitigations(run, report),
        trials=remedies.heading(run, found) if found else "",
        further=remedies.further_parts(run, verdict, found),
        speeds=curves.speeds(report),
        no_speed=speeds.why_none(run),
        payoff=speeds.payoff_lines(run),
        wired=_wired(run, report),
        findings=_found(verdict),
        sound=_axes(verdict, "healthy"),
        unsettled=_axes(verdict, "open", "inconclusive"),
        unjudged=_axes(verdict, "not applicable", "not measured"),
        failed=list(run.failed.items()),
        remarks=notes.remarks(run),
        exports=list(report["exports"].items()),
        identity=_identity(report["pair"]),
        request=[(name, written(value)) for name, value in report["run"]["request"].items() if not isinstance(value, list | dict)],
        versions=_versions(report["run"]),
        pointers=notes.pointers(run, verdict),
        whole_request=report["run"]["request"],
    )


def _head(run: Run, verdict: Verdict, report: Node, baseline: Node, found: Sequence[Outcome]) -> Head:
    return Head(
        target=run.pair.target.name,
        drafter=run.pair.drafter.name,
        facts=evidence.facts_line(run),
        severity=verdict.severity,
        banner=evidence.banner(verdict),
        headline=verdict.headline,
        open=verdict.open,
        keys=_keys(run, report, baseline),
        lines=evidence.length_lines(run) if _qualified(run) else [],
        todo=list(advice.to_do(run, verdict, found).items()),
        axes=list(verdict.axes.items()),
    )


def _qualified(run: Run) -> bool:
    """Whether more must be said of the acceptance length than the number: by which rule, on whose text, or as it is wired."""
    return bool(run.spec.temperature) or run.reference != BASELINE or run.argmax_share < EXACT_TEXT


def _keys(run: Run, report: Node, baseline: Node) -> list[Key]:
    """What the drafter gives in tokens and in speed, and what self-feeding takes."""
    whole = read(baseline["emitted_per_round"])
    beside = f"over whole replies {whole.text('number')}" if whole.value is not None else whole.reason
    keys = [_key(evidence.length_name(run), length(baseline), "number", beside)]
    if run.pair.no_recursion is None:
        tax = read(baseline["self_feeding_tax"])
        keys.append(_key("lost to self-feeding, at most", tax, "percent", "of the draft tokens that could be accepted"))
    return [*keys, _speed_key(run, report)]


def _speed_key(run: Run, report: Node) -> Key:
    """What decoding gains at the batch size that decides."""
    first: Node | None = next(iter(report["payoff"]), None)
    if first is None:
        return Key("expected speed", "–", "", speeds.why_none(run))
    beside = f"plain decoding, at draft length {first['best_draft_length']}" if "best_draft_length" in first else "plain decoding"
    return _key("expected speed", read(first["speed_up"]), "times", f"{beside}, batch {first['batch_size']}")


def _key(name: str, number: Number, form: Form, remark: str) -> Key:
    write = FORMS[form]
    if number.value is None:
        return Key(name, "–", "", f"unknown: {number.reason}")
    interval = f"{write(number.low)} to {write(number.high)}" if number.low is not None and number.high is not None else evidence.TOO_FEW
    return Key(name, write(number.value), interval, remark)


def _found(verdict: Verdict) -> list[Found]:
    """The findings by the grade that is sure, then by the one that is most likely: grades are of shares of what the axis counts, so they
    compare. The first of an axis that it decided carries that axis' id.
    """
    rank = {grade: place for place, grade in enumerate(SEVERITIES)}
    ranked = sorted(verdict.findings, key=lambda one: (-rank.get(one.severity, 0), -rank.get(one.likely or one.severity, 0)))
    found: dict[str, Found] = {}
    for number, one in enumerate(ranked, 1):
        code = BY_NAME[one.code]
        deciding = one.severity != "healthy" and f"axis-{code.axis}" not in found
        place = f"axis-{code.axis}" if deciding else f"finding-{number}"
        form: Form = "percent" if "share" in one.unit else "number"
        found[place] = Found(place, one, evidence.grade(one), of(one.estimate).text(form), PLACES[code.axis], code)
    return list(found.values())


def _axes(verdict: Verdict, *states: AxisState) -> list[tuple[Axis, AxisVerdict]]:
    """The axes that stand so, in order."""
    return [(axis, verdict.axes[axis]) for axis in AXES if axis in verdict.axes and verdict.axes[axis].state in states]


def _wired(run: Run, report: Node) -> Wired:
    pair = run.pair
    others = {system: fields for system, fields in pair.readings.items() if "refused" not in fields}
    return Wired(
        record=[(SWITCHES.get(name, name.replace("_", " ")), written(one.value), one.source) for name, one in pair.record.items()],
        others=[
            (SYSTEM_NAMES[system], [(SWITCHES[name], written(one.value), one.source) for name, one in fields.items()])
            for system, fields in others.items()
        ],
        refused=[(SYSTEM_NAMES[system], str(fields["refused"].value)) for system, fields in pair.readings.items() if "refused" in fields],
        streams=_streams(run),
        tried=forests.wirings(report),
        note=str(run.wiring),
    )


def _streams(run: Run) -> list[tuple[str, str, str]]:
    """Of each captured stream and the fused input: RMS, and RMS of what it adds to the fused input; nothing where none was measured."""
    found = run.by_stream() if cells(run.path / "streams", run.reference) else {}
    return [(name, of(own).text("number"), of(added).text("number")) for name, (own, added) in found.items()]


def _identity(pair: Node) -> list[tuple[str, str]]:
    rows = [(role, pair[role]) for role in ("target", "drafter")]
    return [
        ("family", pair["family"]),
        *(
            (f"{role} {name.replace('_', ' ')}", str(card[name]))
            for role, card in rows
            for name in ("name", "revision", "model_type", "fingerprint")
            if card[name] is not None
        ),
    ]


def _versions(run: Node) -> list[tuple[str, str]]:
    when = [(name.replace("_", " "), str(run[name])) for name in ("device_name", "started", "finished")]
    return [*((name, str(version)) for name, version in run["versions"].items()), *when]
