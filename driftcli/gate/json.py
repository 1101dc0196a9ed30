"""An outcome as JSON, `schema: 1`: what scripts rely on. An absent number is null, never 0."""

from __future__ import annotations

import json

from driftcli.domain import Estimate
from driftcli.outcome import STATUSES, Check, Outcome
from driftcli.traces.writer import Plain

SCHEMA = 1


def render(outcome: Outcome) -> str:
    """The outcome, indented, ASCII only (so no character of it can drive a terminal), without a trailing newline."""
    return json.dumps(outcome_json(outcome), indent=2, allow_nan=False)


def outcome_json(outcome: Outcome) -> dict[str, Plain]:
    """The outcome as plain values."""
    return {
        "schema": SCHEMA,
        "command": outcome.command,
        "subject": outcome.subject,
        "run": outcome.where,
        "headline": outcome.headline,
        "exit_code": outcome.exit_code,
        "counts": {status: sum(check.status == status for check in outcome.checks) for status in STATUSES},
        "checks": [_check(check) for check in outcome.checks],
    }


def _check(check: Check) -> dict[str, Plain]:
    return {
        "rule": check.rule,
        "status": check.status,
        "reason": check.reason,
        "code": check.code,
        **_estimate(check.estimate),
        "unit": check.unit or None,
        "limit": check.limit,
        "fix": check.fix or None,
        "more_prompts": check.more_prompts,
        "accepted": check.accepted or None,
    }


def _estimate(number: Estimate | None) -> dict[str, Plain]:
    if number is None:
        return dict.fromkeys(("estimate", "low", "high", "n_prompts"))
    return {"estimate": number.value, "low": number.low, "high": number.high, "n_prompts": number.n_prompts}
