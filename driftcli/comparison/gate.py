"""What a comparison comes to as a gate: the acceptance length decides, and the other numbers stand beside it, which at most warn."""

from __future__ import annotations

from dataclasses import replace

from driftcli.comparison.answers import answer
from driftcli.comparison.changes import Change
from driftcli.comparison.pairwise import Comparison
from driftcli.comparison.ranking import Ranking
from driftcli.comparison.telling import banner, headline, reason
from driftcli.domain import Estimate
from driftcli.outcome import Check, Outcome, Status

ENDING: tuple[Status, ...] = ("failed", "undecided")
ASIDE: dict[str, Status] = {"regressed": "warned", "cannot tell": "skipped"}  # of numbers that are for reading


def outcome_of(found: Comparison | Ranking, *, gated: bool = True, strict: bool = False) -> Outcome:
    """The acceptance length fails where it regressed against RUN0 and is undecided where nothing can be told, strict: or no difference was
    seen; where nobody asked for a gate it warns and nothing fails. Any other number that regressed warns, and one that cannot be told is
    skipped.
    """
    outcome = _gated(found, strict=strict)
    ended = [replace(check, status="warned") if check.status in ENDING and not gated else check for check in outcome.checks]
    return replace(outcome, checks=ended)


def _gated(found: Comparison | Ranking, *, strict: bool) -> Outcome:
    if isinstance(found, Ranking):
        return _of_ranking(found, strict=strict)
    first, second = found.names
    rest = [_check(one, found.names, ASIDE.get(one.word, "passed")) for one in found.changes[1:]]
    checks = [_check(found.length, found.names, _deciding(found.length, strict=strict)), *rest]
    where = str(found.pairing.runs[1].path)
    return Outcome("compare", f"{second} against {first}", where, f"{banner(found)}: {headline(found)}", checks)


def _of_ranking(found: Ranking, *, strict: bool) -> Outcome:
    first, *rest = found.names
    checks = [
        _check(one, (first, name), _deciding(one, strict=strict), f":{name}") for name, one in zip(rest, found.against_first, strict=True)
    ]
    return Outcome("compare", f"{', '.join(rest)} against {first}", str(found.pairing.runs[0].path), answer(found), checks)


def _check(one: Change, names: tuple[str, str], status: Status, of: str = "") -> Check:
    estimate = one.difference if isinstance(one.difference, Estimate) else None
    unit = "points of a share" if one.number.scale == "points" else one.number.words
    rule, said = f"compare:{one.number.name}{of}", reason(one, names)
    return Check(rule, status, said, None, estimate, unit, one.band, more_prompts=one.more_prompts)


def _deciding(one: Change, *, strict: bool) -> Status:
    if one.word == "regressed":
        return "failed"
    return "undecided" if one.word == "cannot tell" or (strict and one.word == "no difference seen") else "passed"
