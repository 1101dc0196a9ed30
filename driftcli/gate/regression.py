"""A run held against a baseline: its changes as rules. Which of them fail is the comparison's to say, unless the policy names one."""

from __future__ import annotations

import shlex
from dataclasses import replace

from driftcli.comparison.changes import Change
from driftcli.comparison.comparability import Difference
from driftcli.comparison.gate import outcome_of
from driftcli.comparison.names import names
from driftcli.comparison.pairwise import comparable, compare
from driftcli.comparison.telling import forced_words
from driftcli.comparison.words import BAND
from driftcli.domain import Absent, Estimate
from driftcli.errors import RunError
from driftcli.gate.limits import too_few_by
from driftcli.gate.policy import About, Policy
from driftcli.outcome import Check
from driftcli.printable import counted
from driftcli.statistics.curves import walk_acceptance_length
from driftcli.statistics.intervals import too_few
from driftcli.statistics.walks import MINIMAL_PROMPTS
from driftcli.traces.reader import Run

DEAD = 1.05  # acceptance length that is no drafter's: one draft token in twenty rounds (chosen by us)


def change_checks(baseline: Run, run: Run, policy: Policy, *, force: bool = False) -> list[Check]:
    """The changes of a run against a baseline; raises RunError for a baseline that is dead, and for runs that are not comparable, unless
    `force`, which then warns.
    """
    refuse_dead(baseline)
    runs = (baseline, run)
    found = comparable(runs, force=force, do="name a baseline that was measured alike, or compare them all the same with --force")
    if few := [one for one in runs if one.n_prompts < MINIMAL_PROMPTS]:
        return [_too_few(one) for one in few[:1]]
    comparison = compare(runs, _names(runs), policy.band or BAND, force=force)
    checks = outcome_of(comparison, strict=policy.strict).checks
    named = [_named(check, one, policy) for check, one in zip(checks, comparison.changes, strict=True)]
    return [*(_with_fix(check, runs) for check in named), *_told(found)]


def _too_few(run: Run) -> Check:
    """That a run has too few prompts to be compared, and how many are missing."""
    more = too_few_by(run.n_prompts)
    needed = f"; at least {counted(more, 'more prompt')} {'is' if more == 1 else 'are'} needed" if more else ""
    reason = f"acceptance length: {run.path} has {too_few(run.n_prompts)}{needed}"
    return Check("compare:acceptance_length", "undecided", reason, more_prompts=more)


def refuse_dead(baseline: Run) -> None:
    """RunError for a baseline whose drafter gets nothing accepted, as far as its prompts can tell: nothing could be worse."""
    length = baseline.estimate(walk_acceptance_length)
    if length.value is None:
        raise RunError(f"{baseline.path}: the baseline has no acceptance length ({length.reason}); name a run of longer replies")
    if (length.low if isinstance(length, Estimate) else length.value) <= DEAD:
        raise RunError(
            f"{baseline.path}: a dead baseline, its acceptance length {_shown(length)} is within noise of 1 (expected above {DEAD:g}): "
            "nothing can regress against it; name a run of a drafter that works, or of more prompts"
        )


def _shown(length: Estimate | Absent) -> str:
    return f"{length.value:.2f} {f'[{length.low:.2f}, {length.high:.2f}]' if isinstance(length, Estimate) else f'({length.reason})'}"


def _names(runs: tuple[Run, Run]) -> tuple[str, str]:
    first, second = names(runs)
    return first, second


def _named(check: Check, change: Change, policy: Policy) -> Check:
    """A change as the comparison has it, but one that the policy calls an error by what it comes to, whatever number it is of."""
    rule = policy.rule_for(About(check.rule))
    if rule is None or rule.level != "error":
        return check
    if change.word == "regressed":
        return replace(check, status="failed")
    unsure = change.word == "cannot tell" or (policy.strict and change.word == "no difference seen")
    return replace(check, status="undecided") if unsure else check


def _with_fix(check: Check, runs: tuple[Run, Run]) -> Check:
    """A change that counts with where to look for what it comes from, which a comparison need not say."""
    if check.status in ("passed", "skipped"):
        return check
    where = shlex.join(["driftcli", "compare", *(str(run.path) for run in runs)])
    return replace(check, fix=check.fix or f"see what changed: {where}")


def _told(found: list[Difference]) -> list[Check]:
    """What else differs between the runs: what was forced warns, the rest changes nothing but is to be known."""
    forced, others = ([one for one in found if (one.effect == "refuses") == refuses] for refuses in (True, False))
    return [
        *([Check("compare:forced", "warned", forced_words("compared", forced))] if forced else []),
        *([Check("compare:differences", "skipped", f"the runs also differ in {'; '.join(map(str, others))}")] if others else []),
    ]
