"""Outcomes written by hand, every kind of check among them, one of them hostile."""

from __future__ import annotations

from driftcli.domain import Estimate
from driftcli.outcome import Check, Outcome

EVIL = "a|b <img src=x onerror=alert(1)> ]]> & \" ' 100% \r\n::error::gone\n##[error]too [text](http://x.y) {0} ${{ x }} \x1b[31m\x00\ud800 @me #1"
FAILED = Check(
    "min:acceptance-length",
    "failed",
    "acceptance length is 2.31 [2.21, 2.40] where at least 2.5 is asked",
    estimate=Estimate(2.31, 2.21, 2.4, 80),
    unit="tokens a round",
    limit=2.5,
    fix="serve the drafter before this one",
)
UNDECIDED = Check(
    "max:compounding",
    "undecided",
    "compounding is 11% [6%, 16%], and 10% lies inside",
    estimate=Estimate(0.11, 0.06, 0.16, 80),
    unit="share",
    limit=0.1,
    more_prompts=140,
)
WARNED = Check(
    "DRIFT-STATE", "warned", "mild: the hidden state grows", "DRIFT-STATE", Estimate(1.21, 1.1, 1.3, 80), "RMS ratio", fix="draft 3 tokens"
)
PASSED = Check("axis:template", "passed", "without the template -1% [-3%, 1%]")
SKIPPED = Check("axis:context", "skipped", "no probe of this run asks it")
ACCEPTED = Check("axis:domain", "passed", "code -12% [-15%, -9%]", accepted="known since the last training, until 2027-01-31")
HOSTILE = Check(EVIL, "failed", EVIL, None, Estimate(0.5, 0.4, 0.6, 1), EVIL, 0.7, EVIL, 1, "")


def outcome(*checks: Check, **others: str) -> Outcome:
    named = {"subject": "Some-Target-8B  <-  some-eagle3-head", "where": "runs/new", "headline": "failed: 1 of 6 rules", **others}
    return Outcome("check", named["subject"], named["where"], named["headline"], checks)


ALL = outcome(PASSED, UNDECIDED, SKIPPED, FAILED, WARNED, ACCEPTED)
BAD = outcome(HOSTILE, HOSTILE, subject=EVIL, where=EVIL, headline=EVIL)
NOTHING = outcome(headline="passed: nothing was asked")
