"""A server's verdict on a terminal and as JSON. All text of the server's leaves this module printable."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from driftcli.domain import Absent, Estimate, Finding
from driftcli.outcome import Outcome
from driftcli.printable import few, printable
from driftcli.report.json import estimate_json, finding_json
from driftcli.report.tables import Row, by_depth, hanging
from driftcli.served.judged import Judged, Position
from driftcli.served.rounds import Explanation
from driftcli.served.verdict import Asked, ServedVerdict, percent
from driftcli.traces.writer import Plain

SCHEMA = 1
PREFIX_CACHE = "prefix cache"  # as the kinds of servers say it
NOT_SAMPLED = "tokens a round as the server samples unless told: not asked for (--own-sampling)"
WIDTH = 100  # characters of the table by position
SHOWN = 6  # wirings of which the fit is shown
STYLES = {"as filed": "bold green", "otherwise": "bold red", "undecided": "bold yellow"}


def render(found: ServedVerdict) -> RenderableType:
    """The verdict on a terminal: what it is, by what numbers, what explains it, and what to look at."""
    findings = found.findings
    lines: list[RenderableType] = [
        Text(printable(found.pair), style="bold"),
        Text(printable(_server(found))),
        Text(),
        Text(found.headline, style=STYLES[found.judged.standing]),
        *(hanging(printable(finding.claim)) for finding in findings),
        *([hanging(printable(found.undecided))] if found.judged.standing == "undecided" else []),
        Text(),
        Text(printable(_lengths(found.judged))),
        *_positions(found.judged),
        *_rounds(found.explanation),
        Text(),
        *(hanging(printable(line)) for line in _facts(found)),
        *_fixes(findings),
    ]
    return Group(*lines)


def _server(found: ServedVerdict) -> str:
    facts, asked = found.facts, found.asked
    return (
        f"{found.url}: {facts.kind} {facts.version}, {facts.model}, {facts.drafts} draft tokens a round; {asked.texts} replies of "
        f"{asked.prompts} prompts, {'one at a time' if asked.concurrency == 1 else f'{asked.concurrency} at a time'}"
    )


def _lengths(judged: Judged) -> str:
    same = f"rounds as foreseen in {judged.same} of {judged.units}"
    return f"tokens a round: {_number(judged.server)} here, {_number(judged.run)} by the files (greedy, the same tokens); {same}"


def _positions(judged: Judged) -> list[RenderableType]:
    if not judged.positions:
        return []
    rows = [
        Row("the server", [_cell(one.server) for one in judged.positions], "of its rounds"),
        Row("by the files", [_cell(one.run) for one in judged.positions], "of the run's rounds"),
        Row("difference", [_points(one) for one in judged.positions], "in points; * surely"),
    ]
    return [Text(), *by_depth("accepted to position", rows, WIDTH)]


def _points(one: Position) -> str:
    if not isinstance(one.more, Estimate):
        return "-" if one.more.value is None else f"{100 * one.more.value:+z.0f}"
    sure = "*" if one.more.low > 0 or one.more.high < 0 else ""
    return f"{100 * one.more.value:+z.0f}{sure}"


def _rounds(found: Explanation | None) -> list[RenderableType]:
    """Single rounds: what was asked for, and how each wiring fits."""
    if found is None:
        return []
    lines = [f"{percent(found.filed):>20}  as filed ({percent(found.first)} of the first draft tokens)"]
    lines += [f"{percent(fit.share):>20}  {fit.other.words} ({fit.other.code})" for fit in found.fits[:SHOWN]]
    title = Text(f"{found.rounds} SINGLE ROUNDS, and what foresees how many draft tokens they keep", style="bold")
    none = [] if found.fits else [hanging("the run measured no other wiring; diagnose --probe wiring does")]
    return [Text(), title, *(Text(printable(line)) for line in lines), *none]


def _facts(found: ServedVerdict) -> list[str]:
    """What was seen besides the verdict."""
    asked, judged, facts = found.asked, found.judged, found.facts
    lines = [
        _parted(asked),
        f"{asked.unusable} replies part too early, or anew each time, and are left out" if asked.unusable else "",
        f"{asked.too_long} texts are longer than the {facts.longest} tokens that the server takes, and are left out"
        if asked.too_long
        else "",
        f"the longest text has {asked.over[0]} tokens, and the drafter's config declares {asked.over[1]} positions" if asked.over else "",
        _decay(judged),
        f"tokens a round as the server samples unless told: {_number(found.sampled)}" if found.sampled else NOT_SAMPLED,
        *(f"{name}: {value}" for name, value in {PREFIX_CACHE: "the server does not say", **(facts.said or {})}.items()),
        *found.notes,
    ]
    return [line for line in lines if line]


def _parted(asked: Asked) -> str:
    if not asked.parted:
        return "every reply is the run's, token by token"
    whole = asked.texts + asked.unusable
    return (
        f"{len(asked.parted)} of {whole} replies part from the run's, at token {few(asked.parted)}; of those only what lies before counts"
    )


def _decay(judged: Judged) -> str:
    if isinstance(judged.decay, Absent):
        return f"decay over time is not judged: {judged.decay.reason}"
    return f"second half of the requests against the first: {percent(judged.decay)} more is lost"


def _fixes(findings: list[Finding]) -> list[RenderableType]:
    fixes = [finding.fix for finding in findings if finding.fix]
    return [Text(), Text("WHAT TO DO", style="bold"), *(hanging(printable(fix)) for fix in fixes)] if fixes else []


def _number(number: Estimate | Absent) -> str:
    if isinstance(number, Absent):
        return "?" if number.value is None else f"{number.value:.2f}"
    return f"{number.value:.2f} [{number.low:.2f}, {number.high:.2f}]"


def _cell(number: Estimate | Absent) -> str:
    return "-" if number.value is None else f"{number.value:.0%}"


def render_json(found: ServedVerdict, outcome: Outcome) -> str:
    """The verdict as JSON, `schema: 1`; indented, ASCII only. An absent number is null with its reason."""
    facts = found.facts
    content: dict[str, Plain] = {
        "schema": SCHEMA,
        "url": found.url,
        "run": found.run,
        "pair": found.pair,
        "verdict": {"standing": found.judged.standing, "severity": found.judged.severity, "exit_code": outcome.exit_code},
        "server": {
            "kind": facts.kind,
            "version": facts.version,
            "model": facts.model,
            "draft_tokens": facts.drafts,
            "drafted_a_round": found.judged.drafted,
            "longest": facts.longest,
            **{name.replace(" ", "_"): value for name, value in {PREFIX_CACHE: None, **(facts.said or {})}.items()},
        },
        "asked": _asked(found.asked),
        "tokens_a_round": {"server": _estimate(found.judged.server), "run": _estimate(found.judged.run)},
        "tokens_a_round_as_it_samples": _estimate(found.sampled) if found.sampled else None,
        "lost": _estimate(found.judged.lost),
        "rounds_as_foreseen": {"count": found.judged.same, "of": found.judged.units},
        "positions": [
            {"position": place, "server": _estimate(one.server), "run": _estimate(one.run), "difference": _estimate(one.more)}
            for place, one in enumerate(found.judged.positions, 1)
        ],
        "decay": _estimate(found.judged.decay),
        "departs": found.place,
        "single_rounds": _explained(found.explanation),
        "findings": [_finding(finding) for finding in found.findings],
        "undecided": found.undecided if found.judged.standing == "undecided" else None,
        "more_prompts": found.judged.more,
        "notes": list(found.notes),
    }
    return json.dumps(content, indent=2, allow_nan=False)


def _asked(asked: Asked) -> dict[str, Plain]:
    return {
        "replies": asked.texts,
        "prompts": asked.prompts,
        "tokens": asked.emitted,
        "concurrency": asked.concurrency,
        "parted_at": list(asked.parted),
        "left_out": {"parted": asked.unusable, "too_long": asked.too_long},
        "beyond_positions": None if asked.over is None else {"longest": asked.over[0], "declared": asked.over[1]},
    }


def _explained(found: Explanation | None) -> Mapping[str, Plain] | None:
    if found is None:
        return None
    return {
        "count": found.rounds,
        "as_filed": _estimate(found.filed),
        "first_as_filed": _estimate(found.first),
        "explained_by": found.best.other.name if found.best else None,
        "alike": list(found.alike),
        "wirings": [
            {
                "name": fit.other.name,
                "words": fit.other.words,
                "code": fit.other.code,
                "foreseen": _estimate(fit.share),
                "more_than_filed": _estimate(fit.more),
            }
            for fit in found.fits
        ],
    }


def _finding(finding: Finding) -> dict[str, Plain]:
    return {**finding_json(finding), "fix": finding.fix or None}


def _estimate(number: Estimate | Absent) -> dict[str, Plain]:
    return {"reason": None, **estimate_json(number)}
