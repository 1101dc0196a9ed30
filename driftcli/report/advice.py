"""What to do, once: what an undecided axis asks for, what was measured to help, and what the findings ask for."""

from __future__ import annotations

from collections.abc import Sequence

from driftcli.codes import BY_NAME
from driftcli.domain import Verdict
from driftcli.mitigations.trials import Outcome
from driftcli.printable import printable
from driftcli.report import remedies
from driftcli.report.speeds import gain_text, shorter_draft
from driftcli.statistics.payoff import deciding, priced
from driftcli.traces.reader import Run

MEASURED = "measured"  # who asks, where a trial does and not a finding


def to_do(run: Run, verdict: Verdict, found: Sequence[Outcome]) -> dict[str, list[str]]:
    """Each advice once, with the codes that ask for it. What an undecided axis asks for comes first, and all else only if that changes
    nothing; then what helped on these prompts; then what the findings ask for, in their order.
    """
    first = {printable(axis.fix): [str(name)] for name, axis in verdict.axes.items() if axis.fix}
    rest = {**_measured(run, verdict, found), **_asked(verdict)}
    return {**first, **{f"if that changes nothing: {one}" if first else one: codes for one, codes in rest.items()}}


def advice_lines(run: Run, verdict: Verdict, found: Sequence[Outcome]) -> list[str]:
    """The same as text."""
    return [f"{fix}  ({', '.join(codes)})" for fix, codes in to_do(run, verdict, found).items()]


def _measured(run: Run, verdict: Verdict, found: Sequence[Outcome]) -> dict[str, list[str]]:
    """What helped; where no step was timed, so that no draft length could be tried, to draft fewer tokens against a drift."""
    drifts = [one.code for one in verdict.findings if BY_NAME[one.code].axis == "drift" and one.severity != "healthy"]
    shorter = "" if priced(run) else shorter_draft(run)
    return {
        **{_told(run, one): [MEASURED] for one in remedies.worth_it(run, found)},
        **({printable(shorter): list(dict.fromkeys(drifts))} if drifts and shorter else {}),
    }


def _told(run: Run, one: Outcome) -> str:
    """A trial that helps, with its gain."""
    of = "the speed" if deciding(run) else "the tokens a round"
    code = ", which needs code in the engine" if one.kind == "needs code" else ""
    over = f" instead of {run.spec.depth}" if remedies.of_length(one) else ""
    return printable(f"{remedies.option_words(run, one)}{over}: {gain_text(one.gain)} {of}{code}")


def _asked(verdict: Verdict) -> dict[str, list[str]]:
    advice: dict[str, list[str]] = {}
    for finding in verdict.findings:
        advice.setdefault(printable(finding.fix), []).append(finding.code)
    return {fix: list(dict.fromkeys(codes)) for fix, codes in advice.items()}
