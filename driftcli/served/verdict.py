"""All that is known of a server after it was asked, and what it comes to: findings, each with its number, and rules with exit codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from driftcli.domain import SEVERITIES, Absent, Estimate, Finding, Severity
from driftcli.outcome import Check, Outcome, Status
from driftcli.printable import counted
from driftcli.report.choices import FailOn
from driftcli.served.judged import GRADES, Judged
from driftcli.served.rounds import FITS, Explanation
from driftcli.served.server import Facts
from driftcli.statistics.intervals import mirrored

OF_DRAFTS = "share of accepted draft tokens"
Place = Literal["first", "later", "decoding"]
WHERE: dict[Place, str] = {
    "first": "it departs at the first draft token: capture layers or their order, the embedding, RoPE, or what the target hands in",
    "later": "first draft tokens are as filed and later ones are not: the state that is fed back, norms, windows, or the drafter's cache",
    "decoding": "single rounds behind a fresh prompt are as filed: what differs comes with decoding on, as the drafter's cache does",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for: replies of the run's texts; parted: places of the first other token of those that part from the run's.

    unusable: replies that part too early or anew each time. too_long: texts that the server takes no more. over: tokens of the longest
    text, where that is more than the positions that the drafter's config declares, and those.
    """

    texts: int
    prompts: int
    emitted: int
    concurrency: int
    parted: Sequence[int] = ()
    unusable: int = 0
    too_long: int = 0
    over: tuple[int, int] | None = None


@dataclass(frozen=True)
class ServedVerdict:
    """A server held against a run; sampled: tokens a round as the server samples unless told, None where it was not asked for."""

    url: str
    run: str
    pair: str
    facts: Facts
    asked: Asked
    judged: Judged
    explanation: Explanation | None = None
    sampled: Estimate | Absent | None = None
    notes: Sequence[str] = field(default=())

    @property
    def place(self) -> Place | None:
        """Where the server departs, by single rounds; None where nothing tells."""
        found = self.explanation
        if found is None or not isinstance(found.first, Estimate) or not isinstance(found.filed, Estimate):
            return None
        if found.best is not None:
            return "later" if found.best.other.code == "FEEDBACK-MODE" else "first"
        enough = FITS + GRADES.mild
        return "decoding" if found.filed.value >= enough else "first" if found.first.value < enough else "later"

    @property
    def headline(self) -> str:
        """The verdict in capitals."""
        return {"as filed": "SERVED AS FILED", "otherwise": "SERVED OTHERWISE", "undecided": "UNDECIDED"}[self.judged.standing]

    @property
    def findings(self) -> list[Finding]:
        """What is found, the main one first."""
        main = self._main()
        return [*([main] if main else []), *([self._decay()] if self.judged.decays else [])]

    def _main(self) -> Finding | None:
        lost = self.judged.lost
        if isinstance(lost, Absent) or self.judged.standing == "undecided":
            return None
        if self.judged.standing == "as filed":
            return Finding(
                "SERVED-AS-FILED", "healthy", f"the server keeps what the files promise: {difference(lost)}", lost, OF_DRAFTS, ""
            )
        best = self.explanation.best if self.explanation else None
        where = f"; {WHERE[self.place]}" if self.place else ""
        claim = f"the server does not compute what the files say: {difference(lost)}{where}{_cause(self.explanation)}"
        fix = (
            best.other.fix
            if best
            else "compare the files, flags and version of the server with what was measured; then driftcli scan says what reads which key"
        )
        return Finding("SERVED-OTHERWISE", self.judged.severity, claim, lost, OF_DRAFTS, fix, best.other.name if best else "baseline")

    def _decay(self) -> Finding:
        decay = self.judged.decay
        assert isinstance(decay, Estimate)
        claim = f"in the second half of the requests {percent(decay)} more of the accepted draft tokens are lost than in the first"
        fix = "restart the server and ask again; if it falls again, turn its prefix cache off, and look at what it keeps between requests"
        return Finding("SERVED-DECAYS", GRADES.of(decay), claim, decay, OF_DRAFTS, fix)

    def outcome(self, fail_on: FailOn) -> Outcome:
        """The rules and how they went; its exit code is the command's."""
        checks = [_check(finding, fail_on) for finding in self.findings]
        if self.judged.standing == "undecided":
            status: Status = "warned" if fail_on == "none" else "undecided"
            checks.insert(0, Check("served", status, self.undecided, more_prompts=self.judged.more))
        if not self.judged.decays:
            checks.append(self._steady())
        who = f"{self.facts.kind} {self.facts.version}, {self.facts.model}, {self.facts.drafts} draft tokens a round"
        return Outcome("server", self.pair, self.run, f"{self.headline.lower()}: {self.url} ({who})", checks)

    def _steady(self) -> Check:
        """That no decay over time is shown, or why it is not judged."""
        decay = self.judged.decay
        if isinstance(decay, Absent):
            return Check("SERVED-DECAYS", "skipped", decay.reason, "SERVED-DECAYS")
        reason = f"no decay over time: in the second half of the requests {percent(decay)} more is lost than in the first"
        return Check("SERVED-DECAYS", "passed", reason, "SERVED-DECAYS", decay, OF_DRAFTS)

    @property
    def undecided(self) -> str:
        """Why nothing is decided, and what would."""
        lost, more = self.judged.lost, self.judged.more
        tell = f"; about {counted(more, 'more prompt')} would tell" if more else "; more prompts would hardly tell"
        if isinstance(lost, Absent):
            return f"{lost.reason}{tell}"
        if self.judged.drafted is not None and abs(self.judged.drafted - self.facts.drafts) > GRADES.mild * self.facts.drafts:
            return (
                f"the server drafted {self.judged.drafted:.2f} tokens a round and is set to {self.facts.drafts}: its draft length changes "
                f"as it serves, so the run foresees nothing for it; start it with a fixed one"
            )
        return f"{difference(lost)}: neither equal nor otherwise is shown{tell}"


def _cause(found: Explanation | None) -> str:
    """Which wiring the single rounds fit, and how well."""
    if found is None:
        return ""
    filed = f"{percent(found.filed)} as filed" if isinstance(found.filed, Estimate) else "as filed not known"
    best = found.best
    if best is None:
        return f"; of {found.rounds} single rounds {filed}, and no wiring that the run measured explains them"
    alike = f" (or what does the same on these: {', '.join(found.alike)})" if found.alike else ""
    return f"; {best.other.words} ({best.other.code}){alike} explains {percent(best.share)} of {found.rounds} single rounds, {filed}"


def difference(lost: Estimate) -> str:
    """A loss, or a gain, of accepted draft tokens in words."""
    if lost.value >= 0:
        return (
            f"{percent(lost)} of the accepted draft tokens are lost"
            if lost.value > 0
            else f"as many draft tokens are accepted, and {-lost.high:.0%} to {-lost.low:+.0%} is not excluded"
        )
    return f"{percent(mirrored(lost))} more draft tokens are accepted"


def percent(number: Estimate | Absent) -> str:
    """A share with its interval."""
    if isinstance(number, Absent):
        return "?" if number.value is None else f"{number.value:.0%}"
    return f"{number.value:z.0%} [{number.low:z.0%}, {number.high:z.0%}]"


def _check(finding: Finding, fail_on: FailOn) -> Check:
    reached = fail_on != "none" and _rank(finding.severity) >= _rank(fail_on)
    status: Status = "passed" if finding.severity == "healthy" else "failed" if reached else "warned"
    return Check(finding.code, status, finding.claim, finding.code, finding.estimate, finding.unit, fix=finding.fix)


def _rank(severity: Severity) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else 0
