"""The report as Markdown, for an issue or a pull request; text from outside is escaped, so that it stays text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from driftcli.domain import Verdict
from driftcli.mitigations.trials import Outcome
from driftcli.printable import printable
from driftcli.report import advice, evidence, notes, remedies, speeds
from driftcli.report.tables import Row, shown_depths
from driftcli.traces.reader import Run

LINKED = r"@(?=\w)|\b[A-Za-z][\w+.-]*:(?=//)|\bwww(?=\.)|#(?=\d)|\bGH-(?=\d)|\bmailto:"
BREAK = "<!-- -->"  # shows nothing and ends what a forge would link


def render(run: Run, verdict: Verdict) -> str:
    """The whole report, without a trailing newline."""
    heading, attention = evidence.attention_curves(run)
    found = remedies.tried(run)
    blocks: list[list[str]] = [
        [f"## {escaped(evidence.banner(verdict))}: {escaped(printable(verdict.headline))}"],
        [escaped(printable(verdict.open))] if verdict.open else [],
        [f"**{escaped(evidence.pair_line(run))}**  ", escaped(evidence.facts_line(run))],
        _bullets(map(escaped, evidence.length_lines(run))),
        _by_depth(run, "depth", [curve.row(run) for curve in evidence.main_curves(run)]),
        [f"{escaped(heading[0].upper() + heading[1:])}:"],
        _by_depth(run, "depth", [curve.row(run) for curve in attention]),
        *_positions(run),
        *_conditions(run),
        ["### Findings"],
        *_findings(run, verdict, found),
        _bullets(map(escaped, [*notes.axis_lines(verdict), *notes.remarks(run)])),
        *_remedies(run, verdict, found),
        ["```", *notes.pointers(run, verdict), "```"],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def escaped(text: str) -> str:
    """Text in which no character means anything to Markdown, its tables or HTML, and nothing pings somebody or becomes a link: what a forge
    would take for a name, an issue's number or an address is broken by an empty comment. A bracket is spared unless it could close a link.
    """
    plain = re.sub(r"[\\`*_<>|~&#$]|\](?=[(\[:])", r"\\\g<0>", text)
    return re.sub(LINKED, rf"\g<0>{BREAK}", plain)


def _by_depth(run: Run, corner: str, rows: Sequence[Row]) -> list[str]:
    shown = shown_depths(run.spec.depth)
    head = [corner, *map(str, shown), ""]
    body = [[escaped(row.name.strip()), *(escaped(row.cells[depth - 1]) for depth in shown), escaped(row.remark)] for row in rows]
    return table(head, ["---", *["--:"] * (len(head) - 2), "---"], body)


def _conditions(run: Run) -> list[list[str]]:
    rows = [list(map(escaped, row)) for row in evidence.condition_rows(run)]
    head = ["probe", "condition", evidence.length_name(run), evidence.KEPT]
    return [["### Conditions"], table(head, ["---", "---", "--:", "--:"], rows)] if rows else []


def _positions(run: Run) -> list[list[str]]:
    rows = [list(map(escaped, row)) for row in evidence.position_rows(run)]
    head = ["reply tokens", "replies", evidence.length_name(run), "accepted draft tokens, against the first part of the same replies"]
    return [["### Position in the reply"], table(head, ["---", "--:", "--:", "--:"], rows)] if rows else []


def _findings(run: Run, verdict: Verdict, found: Sequence[Outcome]) -> list[list[str]]:
    rows = [[finding.code, evidence.grade(finding), escaped(printable(finding.claim))] for finding in verdict.findings]
    asked = _bullets(map(escaped, advice.advice_lines(run, verdict, found)))
    shown = table(["code", "severity", "claim"], ["---"] * 3, rows) if rows else ["None."]
    return [shown, *([["### What to do"], asked] if asked else [])]


def _remedies(run: Run, verdict: Verdict, found: Sequence[Outcome]) -> list[list[str]]:
    by_length = speeds.speed_rows(run)
    blocks = [["### Mitigations"]] if found or by_length else []
    if found:
        rows = [list(map(escaped, (name, state, words, gain))) for state, name, words, gain in remedies.remedy_rows(run, found)]
        blocks += [
            table(["trial", "", "best option", "gain"], ["---"] * 3 + ["--:"], rows),
            [escaped(f"Gain: {remedies.heading(run, found)}.")],
        ]
    if blocks and (answer := remedies.answer(run, verdict, found)):
        blocks.append([f"**{escaped(answer)}**"])
    if by_length:
        blocks += [_by_depth(run, "draft length", by_length), _bullets(map(escaped, speeds.payoff_lines(run)))]
    for head, lines in remedies.further_parts(run, verdict, found) if blocks else []:
        blocks += [[f"### {head}"], _bullets(map(escaped, lines))]
    return blocks


def table(head: Sequence[str], rule: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; its cells are escaped already."""
    return [f"| {' | '.join(row)} |" for row in (head, rule, *body)]


def _bullets(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines]
