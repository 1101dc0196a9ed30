"""The report as Markdown, for an issue or a pull request; text from outside is escaped, so that it stays text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from driftcli.domain import Verdict
from driftcli.mitigations.trials import Outcome
from driftcli.printable import printable
from driftcli.report import advice, evidence, notes, remedies, shift, speeds, survival
from driftcli.report.tables import Row, shown_depths
from driftcli.traces.reader import Run

LINKED = r"@(?=\w)|\b[A-Za-z][\w+.-]*:(?=//)|\bwww(?=\.)|#(?=\d)|\bGH-(?=\d)|\bmailto:"
LINES = 60  # of the report (chosen by us)
HEAD, MORE = 3, 2  # lines of a part besides its own: blank, heading, blank; of the count of what is left out
NAMED = 2  # lines that name the parts without room
CELLS = ("---", "---", "--:", "--:")
BREAK = "<!-- -->"  # shows nothing and ends what a forge would link


@dataclass(frozen=True, slots=True)
class Part:
    """A heading and its lines, of which the first `fixed` stand for any; held: whether there is anything to show. spare: shown whole where
    all others left room, or not at all.
    """

    head: str
    lines: Sequence[str]
    fixed: int
    held: bool
    spare: bool = False


def render(run: Run, verdict: Verdict) -> str:
    """The story of the page on a terminal in at most `LINES` lines, without a trailing newline; what is left out is counted."""
    found = remedies.tried(run)
    todo = advice.advice_lines(run, verdict, found)
    head: list[list[str]] = [
        [f"## {escaped(evidence.banner(verdict))}: {escaped(printable(verdict.headline))}"],
        [escaped(printable(verdict.open))] if verdict.open else [],
        [f"**{escaped(evidence.pair_line(run))}**  ", escaped(evidence.facts_line(run))],
        _bullets(map(escaped, evidence.length_lines(run))),
        [f"**What to do first:** {escaped(todo[0])}"] if todo else [],
        _by_depth(run, "depth", [curve.row(run) for curve in evidence.main_curves(run) if not curve.detail]),
    ]
    tail = [[escaped(printable(f"Axes: {notes.axis_states(verdict)}"))], ["```", *request_lines(run), "```"]]
    fixed = [block for block in (*head, *tail) if block]
    used = sum(map(len, fixed)) + len(fixed) - 1
    blocks = [*fixed[: -len(tail)], *_fitted(_parts(run, verdict, found, todo[1:]), LINES - used), *tail]
    return "\n\n".join("\n".join(block) for block in blocks)


def request_lines(run: Run) -> list[str]:
    """The request as it was made, as far as the run says, and the versions."""
    asked, versions = run.manifest.get("asked"), run.manifest["versions"]
    assert isinstance(versions, Mapping)
    kept = {name: value for name, value in asked.items() if value not in (None, [], "", False)} if isinstance(asked, dict) else {}
    words = ", ".join(f"{name.replace('_', '-')} {value}" for name, value in kept.items())
    measured = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [printable(line).replace("`", "'") for line in (*([f"request:  {words}"] if words else []), f"versions: {measured}")]


def _parts(run: Run, verdict: Verdict, found: Sequence[Outcome], todo: Sequence[str]) -> list[Part]:
    """What yields where there is no room: each part as many items as fit, the more weighty ones first."""
    conditions = [list(map(escaped, row)) for row in evidence.condition_rows(run)]
    findings = [[one.code, evidence.grade(one), escaped(printable(one.claim))] for one in verdict.findings]
    trials = [list(map(escaped, (name, state, words, gain))) for state, name, words, gain in remedies.remedy_rows(run, found)]
    answer = [escaped(one) for one in (remedies.answer(run, verdict, found),) if one]
    typed = [escaped(line) for line in remedies.settable(remedies.typed(run, found))]
    against, stopping = shift.shift_lines(run), survival.survival_lines(run, found)
    positions = [list(map(escaped, row)) for row in evidence.position_rows(run)]
    by_position = ("reply tokens", "replies", evidence.length_name(run), evidence.AGAINST_FIRST)
    speed = _by_depth(run, "draft length", speeds.speed_rows(run)) if speeds.speed_rows(run) else []
    return [
        Part("Findings", table(("code", "severity", "claim"), ["---"] * 3, findings), 2, bool(findings)),
        Part("Then", _bullets(map(escaped, todo)), 0, bool(todo)),
        Part(shift.HEADING, _bullets(map(escaped, against)), 0, bool(against)),
        Part("Speed", speed, 2, bool(speed)),
        Part("What to type", _bullets([*answer, *typed]), 0, bool(answer or typed)),
        Part("Mitigations", table(("trial", "", "best option", "gain"), ("---", "---", "---", "--:"), trials), 2, bool(trials)),
        Part("Conditions", table(("probe", "condition", evidence.length_name(run), evidence.KEPT), CELLS, conditions), 2, bool(conditions)),
        Part("Position in the reply", table(by_position, CELLS, positions), 2, bool(positions)),
        *(Part(name, _by_depth(run, "depth", rows), 2, held=True, spare=True) for name, rows in survival.survival_tables(run)),
        Part(survival.STOPPING, _bullets(map(escaped, stopping)), 0, bool(stopping), spare=True),
        Part("Also", _bullets(map(escaped, notes.remarks(run))), 0, bool(notes.remarks(run))),
    ]


def _fitted(parts: Sequence[Part], room: int) -> Iterator[list[str]]:
    """The parts in so many lines; the first item of every part goes before the rest of any, and parts that not even their first item has
    room for are named at the end.
    """
    shown, spare = ([part for part in parts if part.held and part.spare is kind] for kind in (False, True))
    least = [HEAD + part.fixed + min(1 + MORE, len(part.lines) - part.fixed) for part in shown]
    whole = sum(least) <= room - NAMED * bool(spare)
    count = len(shown) if whole else sum(total <= room - NAMED for total in accumulate(least))
    room -= NAMED * (bool(spare) or not whole)
    for number, part in enumerate(shown[:count]):
        kept = sum(least[number + 1 : count])
        items = len(part.lines) - part.fixed
        fitting = items if HEAD + part.fixed + items <= room - kept else room - kept - HEAD - part.fixed - MORE
        more = ["", f"and {items - fitting} more: `driftcli report RUN --full`"] if fitting < items else []
        block = [f"### {part.head}", "", *part.lines[: part.fixed + fitting], *more]
        room -= len(block) + 1
        yield block
    left_out = shown[count:]
    for part in spare:
        if (lines := HEAD + len(part.lines)) + 1 > room:
            left_out.append(part)
            continue
        room -= lines + 1
        yield [f"### {part.head}", "", *part.lines]
    if rest := [part.head.lower() for part in left_out]:
        yield [f"No room here for: {', '.join(rest)}. `driftcli report RUN --full` has them."]


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


def table(head: Sequence[str], rule: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; its cells are escaped already."""
    return [f"| {' | '.join(row)} |" for row in (head, rule, *body)]


def _bullets(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines]
