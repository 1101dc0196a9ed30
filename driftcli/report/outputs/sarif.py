"""An outcome as SARIF 2.1.0, for code scanning.

Only what failed, warned or is undecided is a result: GitHub takes every result for a problem, also one of kind `pass`. What passed is a
rule without a result, what was skipped a note of the invocation. Every result has a place, without which GitHub refuses the whole file: the
run's manifest. An accepted regression is a result that is suppressed, with its reason.
"""

from __future__ import annotations

import json
from hashlib import sha256
from importlib import metadata
from pathlib import PurePath
from typing import Literal
from urllib.parse import quote

from driftcli.outcome import Check, Outcome, Status
from driftcli.printable import printable
from driftcli.report.outputs.words import lines, meaning, remedies, worst_first
from driftcli.traces.layout import MANIFEST
from driftcli.traces.writer import Plain

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS: dict[Status, Literal["error", "warning", "none"]] = {"failed": "error", "warned": "warning", "undecided": "none"}
FINGERPRINT = 16  # hexadecimal digits by which a result is known again in the next run (chosen by us)


def render(outcome: Outcome) -> str:
    """The log, indented, ASCII only, without a trailing newline."""
    return json.dumps(log(outcome), indent=2, allow_nan=False)


def log(outcome: Outcome) -> dict[str, Plain]:
    """The log as plain values: one run of one tool."""
    ordered = worst_first(outcome)
    rules = {check.rule: check for check in reversed(ordered)}  # the worst of each rule stands for it
    ids = sorted(rules)
    driver: dict[str, Plain] = {"name": "driftcli", "version": metadata.version("driftcli"), "rules": [_rule(rules[name]) for name in ids]}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "invocations": [_invocation(outcome)],
                "results": [_result(outcome, check, ids.index(check.rule)) for check in ordered if _is_result(check)],
                "columnKind": "unicodeCodePoints",
                "properties": {"command": outcome.command, "pair": printable(outcome.subject), "headline": printable(outcome.headline)},
            }
        ],
    }


def _is_result(check: Check) -> bool:
    return check.status in LEVELS or bool(check.accepted)


def _rule(check: Check) -> Plain:
    text = " Or: ".join(remedies(check)) or meaning(check)
    return {"id": printable(check.rule), "shortDescription": _text(meaning(check)), "help": _text(text)}


def _result(outcome: Outcome, check: Check, index: int) -> Plain:
    same = sha256(f"{outcome.command}\n{outcome.subject}\n{check.rule}".encode("utf-8", "backslashreplace")).hexdigest()[:FINGERPRINT]
    suppressed: dict[str, Plain] = {"suppressions": [{"kind": "external", "justification": printable(check.accepted)}]}
    return {
        "ruleId": printable(check.rule),
        "ruleIndex": index,
        "kind": "open" if check.status == "undecided" else "fail",
        "level": LEVELS.get(check.status, "warning"),
        "message": _text("\n".join(lines(check))),
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(outcome.where)}, "region": {"startLine": 1}}}],
        "partialFingerprints": {"primaryLocationLineHash": f"{same}:1"},
        **(suppressed if check.accepted else {}),
        "properties": _numbers(check),
    }


def _numbers(check: Check) -> dict[str, Plain]:
    """What was measured, for whoever computes with it."""
    found = check.estimate
    interval: dict[str, Plain] = (
        {} if found is None else {"value": found.value, "low": found.low, "high": found.high, "prompts": found.n_prompts}
    )
    return {**interval, "unit": printable(check.unit), "limit": check.limit, "morePrompts": check.more_prompts}


def _invocation(outcome: Outcome) -> Plain:
    """That the tool ran, and what it left out."""
    left_out: list[Plain] = [
        {"level": "note", "message": _text(f"{printable(check.rule)} was skipped: {printable(check.reason)}")}
        for check in outcome.checks
        if check.status == "skipped"
    ]
    return {"executionSuccessful": True, "exitCode": outcome.exit_code, "toolExecutionNotifications": left_out}


def _text(said: str) -> dict[str, Plain]:
    """A plain message; what a reader would take for a link is broken."""
    return {"text": said.replace("](", "] (")}


def _uri(where: str) -> str:
    """The run's manifest, relative where the run was named so."""
    path = PurePath(printable(where)) / MANIFEST
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
