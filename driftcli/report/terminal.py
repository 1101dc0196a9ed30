"""The report for a person: the verdict and its cost first, then the evidence by depth, the findings, and what to do.

Plain text on purpose where it is not a terminal: width fixed, no colour. Names from models are shown with control characters made visible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from driftcli import curves
from driftcli.domain import SHARES, Absent, Estimate, Finding, Severity, Verdict
from driftcli.report.json import EXACT_TEXT
from driftcli.stats import Floats, Sums
from driftcli.traces.reader import Run

COLOURS: dict[Severity, str] = {
    "healthy": "green",
    "mild": "yellow",
    "moderate": "dark_orange",
    "severe": "red",
    "miswired": "magenta",
    "inconclusive": "cyan",
}
Statistic = Callable[[Sums], Floats]


def render(run: Run, verdict: Verdict) -> RenderableType:
    """The first screen."""
    parts: list[RenderableType] = [_title(run), Text(), _verdict(verdict), _lengths(run), Text(), _curve_table(run, _main_rows(run))]
    if run.pair.no_recursion is None:
        parts += [
            Text(),
            Text("attention of the chain, change against the fresh query on the same tokens", style="dim"),
            _curve_table(run, _attention_rows()),
        ]
    else:
        parts += [Text(), Text("attention of the drafter, share", style="dim"), _curve_table(run, _share_rows())]
    parts += [Text(), *_findings(verdict), *_axes(verdict), *_remarks(run)]
    return Group(
        *parts,
        Text(
            f"All numbers with intervals: driftcli report {clean(str(run.path))} --format json      Traces: {clean(str(run.path))}/steps/",
            style="dim",
        ),
    )


def clean(text: str) -> str:
    """Text with control characters shown as escapes, so that nothing from a checkpoint can drive the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _title(run: Run) -> Text:
    request, spec = run.manifest["request"], run.spec
    assert isinstance(request, dict)
    facts = f"{run.n_prompts} prompts · depth {spec.depth} · greedy · {request['dtype']} on {request['device']}"
    return Text.assemble((clean(run.pair.target.name), "bold"), "  <-  ", (clean(run.pair.drafter.name), "bold"), "      ", (facts, "dim"))


def _verdict(verdict: Verdict) -> Text:
    drift = verdict.axes["drift"].state
    word = {
        "healthy": "NO DRIFT FOUND",
        "inconclusive": "DRIFT NOT APPLICABLE" if drift == "not applicable" else "INCONCLUSIVE",
        "miswired": "MISWIRED",
    }
    shown = word.get(verdict.severity, f"{verdict.severity.upper()} DRIFT")
    return Text.assemble((shown, f"bold {COLOURS[verdict.severity]}"), "   ", clean(verdict.headline))


def _lengths(run: Run) -> Text:
    length = run.estimate(curves.walk_acceptance_length)
    exact = run.argmax_share >= EXACT_TEXT
    name = "acceptance length" if exact else f"text match length (target's own choice at {run.argmax_share:.0%} of the tokens)"
    tax = run.estimate(curves.self_feeding_tax)
    parts = [f"{name} {_plain(length)}"]
    if run.pair.no_recursion is None:
        parts.append(f"self-feeding tax at most {_percent(tax)}")
        feedback, norms = run.pair.record.get("feedback"), run.pair.record.get("pre_fc_norm")
        parts += [f"feedback {feedback.value}, norms before fc: {norms.value}"] if feedback and norms else []
    return Text("     ".join(parts))


def _main_rows(run: Run) -> list[tuple[str, Statistic, str, str]]:
    if run.pair.no_recursion is not None:
        return [
            ("right guess", curves.forced_accuracy, "percent", "every depth is a fresh query"),
            ("kept, all so far", curves.joint_walk, "percent", "over the walk"),
        ]
    handed = run.estimate(curves.handoff)
    cost = f"handing off costs {handed.value:.0%}" if isinstance(handed, Estimate) else ""
    return [
        ("right when fresh", curves.fresh_accuracy, "percent", "its capacity"),
        ("right on own state", curves.forced_accuracy, "percent", cost),
        ("compounding", curves.compounding, "percent", "loss beyond the hand-off"),
        ("  95% low", curves.compounding, "low", ""),
        ("  95% high", curves.compounding, "high", ""),
        ("kept, all so far", curves.joint_walk, "percent", "over the walk"),
        ("state RMS", curves.rms_ratio, "times", "against the fresh state"),
        ("state cosine", curves.state_cosine, "number", "with the fresh state"),
    ]


def _attention_rows() -> list[tuple[str, Statistic, str, str]]:
    return [(name, curves.region_change(name), "points", "points of attention") for name in SHARES]


def _share_rows() -> list[tuple[str, Statistic, str, str]]:
    return [(name, curves.share("forced", name), "percent", "") for name in SHARES]


def _curve_table(run: Run, rows: Sequence[tuple[str, Statistic, str, str]]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=True, header_style="bold", pad_edge=False)
    table.add_column("depth", no_wrap=True, min_width=18)
    for depth in range(1, run.spec.depth + 1):
        table.add_column(str(depth), justify="right", no_wrap=True)
    table.add_column("", style="dim", no_wrap=True)
    for name, statistic, form, remark in rows:
        table.add_row(name, *(FORMS[form](value) for value in run.by_depth(statistic)), remark)
    return table


FORMS: dict[str, Callable[[Estimate | Absent], str]] = {
    "percent": lambda value: "-" if isinstance(value, Absent) else f"{value.value:.0%}",
    "low": lambda value: "" if isinstance(value, Absent) else f"{value.low:.0%}",
    "high": lambda value: "" if isinstance(value, Absent) else f"{value.high:.0%}",
    "times": lambda value: "-" if isinstance(value, Absent) else f"{value.value:.2f}x",
    "number": lambda value: "-" if isinstance(value, Absent) else f"{value.value:.2f}",
    "points": lambda value: "-" if isinstance(value, Absent) else f"{100 * value.value:+.1f}",
}


def _plain(value: Estimate | Absent) -> str:
    return f"absent ({value.reason})" if isinstance(value, Absent) else f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


def _percent(value: Estimate | Absent) -> str:
    return f"absent ({value.reason})" if isinstance(value, Absent) else f"{value.value:.0%} [{value.low:.0%}, {value.high:.0%}]"


def _findings(verdict: Verdict) -> list[RenderableType]:
    if not verdict.findings:
        return [Text("No findings.", style="bold")]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", expand=True)
    table.add_column("FINDINGS", no_wrap=True)
    table.add_column("")
    table.add_column("", ratio=3)
    table.add_column("WHAT TO DO", ratio=2)
    for finding in verdict.findings:
        table.add_row(
            finding.code, Text(_grade(finding), style=COLOURS[finding.severity]), Text(clean(finding.claim)), Text(clean(finding.fix))
        )
    return [table]


def _grade(finding: Finding) -> str:
    return "note" if finding.severity == "healthy" else finding.severity


def _axes(verdict: Verdict) -> list[RenderableType]:
    lines = [
        Text(f"{axis}: {v.state}, {clean(v.reason)}") for axis, v in verdict.axes.items() if v.state in ("inconclusive", "not applicable")
    ]
    unmeasured = [axis for axis, v in verdict.axes.items() if v.state == "not measured"]
    return [*lines, *([Text(f"not measured in this run: {', '.join(unmeasured)}", style="dim")] if unmeasured else [])]


def _remarks(run: Run) -> list[RenderableType]:
    remarks = []
    if short := run.too_short:
        remarks.append(
            f"{len(short)} prompts were too short for one chain and are left out: {clean(', '.join(short[:5]))}{' ...' if len(short) > 5 else ''}"
        )
    notes, ignored = run.manifest["notes"], run.manifest["ignored_generation_settings"]
    assert isinstance(notes, list) and isinstance(ignored, list)
    remarks += [clean(str(note)) for note in notes]
    if ignored:
        remarks.append(
            f"the target's own generation settings were set aside for plain greedy decoding: {clean(', '.join(map(str, ignored)))}"
        )
    return [Text(f"note: {remark}") for remark in remarks]
