"""How a gate ended, in a sentence: passed, failed or cannot tell, and why."""

from __future__ import annotations

from collections.abc import Sequence

from driftcli.outcome import Check, Status
from driftcli.printable import counted, few

HEADS: dict[Status, str] = {"failed": "failed", "undecided": "cannot tell"}


def headline(checks: Sequence[Check]) -> str:
    """The answer with its first reason, and how many others there are."""
    for status, word in HEADS.items():
        if own := [check for check in checks if check.status == status]:
            others = f"; and {len(own) - 1} more" if len(own) > 1 else ""
            return f"{word}: {own[0].reason}{others}{_settled_by(own) if status == 'undecided' else ''}"
    passed, warned = (sum(check.status == status for check in checks) for status in ("passed", "warned"))
    held = "1 rule holds" if passed == 1 else f"{passed} rules hold" if passed else "no rule failed"
    idle = [
        check.rule for check in checks if check.status == "skipped" and check.limit is not None and not check.rule.startswith("compare:")
    ]
    unheld = f"; not judged: {few(idle)}" if idle else ""
    compared = [f"; {check.reason}" for check in checks if check.rule.startswith("compare:")]
    beside = f", {counted(warned, 'warning')}" if warned else ""
    return f"passed: {held}{beside}{unheld}{''.join(compared[:1])}"


def _settled_by(undecided: Sequence[Check]) -> str:
    """How many prompts would settle all of them, where that is known and the first reason does not say it."""
    known = [check.more_prompts for check in undecided if check.more_prompts]
    if not known:
        return ""
    most = counted(max(known), "more prompt")
    return "" if most in undecided[0].reason else f"; about {most} would tell"
