"""The report as JSON, `schema: 1`: what scripts rely on. An absent number is null with a reason beside it, never 0 or NaN."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from driftcli.curves import BY_DEPTH, handoff, self_feeding_tax, walk_acceptance_length
from driftcli.domain import Absent, Estimate, Finding, Verdict
from driftcli.traces.reader import Run
from driftcli.traces.writer import Plain

SCHEMA = 1
EXACT_TEXT = 0.99  # below this share of the target's own choices a given text is no trajectory of the target (design rule)


def render(run: Run, verdict: Verdict) -> str:
    """The whole report, indented, without a trailing newline."""
    return json.dumps(report(run, verdict), indent=2, ensure_ascii=False, allow_nan=False)


def report(run: Run, verdict: Verdict) -> dict[str, Plain]:
    """The report as plain values."""
    claimed = run.argmax_share >= EXACT_TEXT
    length = _estimate(run.estimate(walk_acceptance_length))
    withheld = Absent(
        f"the given replies are the target's own choice at only {run.argmax_share:.1%} of their tokens; see text_match_length"
    )
    return {
        "schema": SCHEMA,
        "pair": run.manifest["pair"],
        "verdict": {
            "severity": verdict.severity,
            "headline": verdict.headline,
            "axes": {axis: {"severity": v.state, "reason": v.reason} for axis, v in verdict.axes.items()},
        },
        "baseline": {
            "acceptance_length": length if claimed else _estimate(withheld),
            **({} if claimed else {"text_match_length": length}),
            "target_argmax_share": run.argmax_share,
            "self_feeding_tax": _estimate(run.estimate(self_feeding_tax)),
            "handoff": _estimate(run.estimate(handoff)),
            "by_depth": _by_depth(run),
        },
        "findings": [finding_json(finding) for finding in verdict.findings],
        "conditions": _conditions(run),
        "mitigations": [],
        "prompts_too_short": list(run.too_short),
        "run": {
            name: run.manifest[name]
            for name in ("request", "versions", "device_name", "started", "finished", "notes", "ignored_generation_settings")
        },
    }


def finding_json(finding: Finding) -> dict[str, Plain]:
    """One finding as plain values."""
    number = finding.estimate
    return {
        "code": finding.code,
        "severity": finding.severity,
        "claim": finding.claim,
        "estimate": number.value,
        "low": number.low,
        "high": number.high,
        "unit": finding.unit,
        "n_prompts": number.n_prompts,
        "condition": finding.condition,
        "fix": finding.fix,
    }


def _by_depth(run: Run) -> list[Plain]:
    columns: Mapping[str, Sequence[Estimate | Absent]] = {name: run.by_depth(statistic) for name, statistic in BY_DEPTH.items()}
    rows: list[Plain] = []
    for place in range(run.spec.depth):
        here = {name: values[place] for name, values in columns.items()}
        rows.append(
            {
                "depth": place + 1,
                **{name: value.value if isinstance(value, Estimate) else None for name, value in here.items()},
                "intervals": {name: [value.low, value.high] for name, value in here.items() if isinstance(value, Estimate)},
                "absent": {name: _reason(name, place, run, value) for name, value in here.items() if isinstance(value, Absent)},
            }
        )
    return rows


def _reason(name: str, place: int, run: Run, value: Absent) -> str:
    if name == "compounding" and place == 0:
        return "depth 1 is a fresh query: nothing is fed back yet"
    if run.pair.no_recursion and ("rms" in name or "cosine" in name):
        return run.pair.no_recursion
    return "no trajectory of this run has a sink" if "sink" in name else value.reason


def _conditions(run: Run) -> list[Plain]:
    names = sorted({path.stem.rsplit("-", 1)[0] for path in (run.path / "steps").glob("*.parquet")} - {"baseline"})
    return [{"name": name, "acceptance_length": _estimate(run.estimate(walk_acceptance_length, name))} for name in names]


def _estimate(value: Estimate | Absent) -> dict[str, Plain]:
    if isinstance(value, Absent):
        return {"value": None, "low": None, "high": None, "reason": value.reason}
    return {"value": value.value, "low": value.low, "high": value.high, "n_prompts": value.n_prompts}
