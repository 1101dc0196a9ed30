"""An outcome as JSON, `schema: 1`; what does not exist is null."""

from __future__ import annotations

import json
from dataclasses import asdict

from driftcli.outcome import Check, Outcome
from driftcli.traces.writer import Plain

SCHEMA = 1


def render(outcome: Outcome) -> str:
    """The outcome, indented, ASCII only, without a trailing newline."""
    return json.dumps({"schema": SCHEMA, **outcome_json(outcome)}, indent=2, allow_nan=False)


def outcome_json(outcome: Outcome) -> dict[str, Plain]:
    """The outcome as plain values."""
    return {
        "command": outcome.command,
        "subject": outcome.subject,
        "where": outcome.where,
        "headline": outcome.headline,
        "exit_code": outcome.exit_code,
        "checks": [_check(check) for check in outcome.checks],
    }


def _check(check: Check) -> dict[str, Plain]:
    return {
        "rule": check.rule,
        "status": check.status,
        "reason": check.reason,
        "code": check.code,
        "estimate": None if check.estimate is None else asdict(check.estimate),
        "unit": check.unit,
        "limit": check.limit,
        "fix": check.fix or None,
        "more_prompts": check.more_prompts,
        "accepted": check.accepted or None,
    }
