"""What a gate came to: rules, each with how it went and a sentence that says why. Every output kind renders this; nothing heavy here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from driftcli.domain import Estimate

Status = Literal["passed", "warned", "failed", "undecided", "skipped"]
STATUSES: tuple[Status, ...] = ("passed", "warned", "failed", "undecided", "skipped")
FAILED, UNDECIDED = 4, 5  # exit codes


@dataclass(frozen=True, slots=True)
class Check:
    """One rule and how it went.

    rule: its id, stable between runs: a finding's code, `axis:template`, `min:acceptance-length`. reason: a sentence with the numbers.
    code: the finding's, where it is about one. limit: what the estimate was held against. more_prompts: about how many more would settle an
    undecided one, None where that is not known. accepted: why the policy accepts what would fail otherwise, and until when.
    """

    rule: str
    status: Status
    reason: str
    code: str | None = None
    estimate: Estimate | None = None
    unit: str = ""
    limit: float | None = None
    fix: str = ""
    more_prompts: int | None = None
    accepted: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All rules that a command held a run, or runs, against; subject: the pair or the runs, as text; where: the run folder."""

    command: Literal["diagnose", "report", "check", "compare", "server"]
    subject: str
    where: str
    headline: str
    checks: Sequence[Check]

    @property
    def exit_code(self) -> int:
        """4 where a rule failed, else 5 where one is undecided, else 0."""
        found = {check.status for check in self.checks}
        return FAILED if "failed" in found else UNDECIDED if "undecided" in found else 0
