"""From a run folder and what is asked of it to the outcome that `driftcli check` prints."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import NoReturn

import typer

from driftcli.cli.battery import battery_of
from driftcli.cli.outputs import Output, deliver
from driftcli.cli.runs import opened_run
from driftcli.cli.today import today
from driftcli.comparison.words import why_no_band
from driftcli.errors import DriftError, SourceError, UsageError
from driftcli.gate import json
from driftcli.gate.checked import Held, checked
from driftcli.gate.limits import Limit, Side
from driftcli.gate.numbers import why_not_in, why_unknown
from driftcli.gate.page import Page
from driftcli.gate.policy import Policy, selecting, why_no_code
from driftcli.gate.policy_file import read_policy
from driftcli.gate.regression import change_checks
from driftcli.outcome import Outcome
from driftcli.report.choices import FailOn
from driftcli.report.console import put
from driftcli.report.verdict import judge
from driftcli.traces.reader import Run


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says."""

    baseline: Path | None
    band: float | None
    force: bool
    policy: Path | None
    least: Sequence[str]
    most: Sequence[str]
    fail_on: FailOn | None
    strict: bool
    select: Sequence[str]
    ignore: Sequence[str]
    probes: Sequence[str]


def outcome(folder: Path, asked: Asked) -> Outcome:
    """How a run ends; raises UsageError for what no run can be asked, SourceError for a wrong policy, RunError for what is no run."""
    policy = policy_of(asked)
    run = opened_run(folder)
    _check_known(run, policy)
    policy = policy.of(run)
    battery = battery_of(run, asked.probes)
    changes = [] if asked.baseline is None else change_checks(opened_run(asked.baseline), run, policy, force=asked.force)
    fail_on = policy.fail_on or ("none" if policy.limits or changes else "mild")
    return checked(Held(run, judge(run, battery), policy, fail_on, today(), changes))


def policy_of(asked: Asked) -> Policy:
    """The policy of the file, with what the command line says over it."""
    held = read_policy(asked.policy) if asked.policy is not None else Policy()
    if asked.band is not None and (why := why_no_band(asked.band)):
        raise UsageError(f"--band: {why}")
    for option, patterns in (("--select", asked.select), ("--ignore", asked.ignore)):
        if odd := next((pattern for pattern in patterns if why_no_code(pattern)), None):
            raise UsageError(f"{option} {odd}: {why_no_code(odd)}")
    own = [*(limit("min", given) for given in asked.least), *(limit("max", given) for given in asked.most)]
    if twice := next((one for place, one in enumerate(own) if one.rule in {other.rule for other in own[:place]}), None):
        raise UsageError(f"--{twice.side} {twice.number}: is given twice, expected one number; leave one out")
    kept = [one for one in held.limits if one.rule not in {limit.rule for limit in own}]
    rules = [*held.rules, *selecting(asked.select, asked.ignore)]
    over = replace(held, fail_on=asked.fail_on or held.fail_on, strict=asked.strict or held.strict, band=asked.band or held.band)
    return replace(over, limits=[*kept, *own], rules=rules)


def limit(side: Side, given: str) -> Limit:
    """A limit as `--min` and `--max` take it; raises UsageError for anything else."""
    name, equals, value = _halves(given)
    if why := why_unknown(name):
        raise UsageError(f"--{side} {given}: {why}")
    try:
        number = float(value) if equals else float("nan")
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise UsageError(f"--{side} {given}: {value!r} is no finite number, expected NAME=NUMBER, as {name}=0.5")
    return Limit(side, name, number, f"--{side} {given}")


def _halves(given: str) -> tuple[str, str, str]:
    """`NAME=NUMBER` cut where the number begins: a name may end in `[category=code]`."""
    if "[" not in given:
        return given.partition("=")
    name, equals, value = given.rpartition("]=")
    return (f"{name}]", equals, value) if equals else (given, "", "")


def _check_known(run: Run, policy: Policy) -> None:
    """Refuse limits on numbers that other runs may have and this one has not."""
    for one in policy.limits:
        if why := why_not_in(run, one.number):
            kind: type[DriftError] = UsageError if one.where.startswith("--") else SourceError
            raise kind(f"{one.where}: {why}; measure it in {run.path}, or take the limit out")


def end(found: Outcome, format: str, outputs: Sequence[Output] = ()) -> NoReturn:
    """Print the outcome, write the outputs, and leave by its exit code."""
    with suppress(BrokenPipeError):  # whoever reads the first lines only still gets the exit code
        put(json.render(found) if format == "json" else Page(found))
    deliver(outputs, found, {})
    raise typer.Exit(found.exit_code)
