"""The report as JSON, `schema: 1`: what scripts rely on. An absent number is null with a reason beside it, never 0 or NaN."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from driftcli.conditions import BASELINE
from driftcli.domain import REWIRED, SHARES, Absent, AxisVerdict, Estimate, Finding, Verdict
from driftcli.mitigations.trials import Outcome
from driftcli.report.evidence import sampled_length
from driftcli.report.remedies import exports_json, remedies_json, training_json, tried
from driftcli.report.rounding import rounding_json
from driftcli.report.shift import shift_json
from driftcli.report.speeds import payoff_json
from driftcli.report.survival import survival_json
from driftcli.report.verdict import GRADED
from driftcli.statistics.curves import BY_DEPTH, IN_TURN, estimate_tax, handoff, walk_acceptance_length
from driftcli.statistics.positions import PAIRED
from driftcli.statistics.walks import EXACT_TEXT
from driftcli.traces.reader import Run
from driftcli.traces.writer import Plain

SCHEMA = 1
AGAINST_CONTROL = {  # what is 0 by construction, and so says nothing, where chain and control are one computation
    *("accuracy_gap", "compounding", "rms_ratio", "state_cosine", "attention_drift", "prompt_side_change"),
    *(f"{name}_change" for name in SHARES),
}


def against_control(run: Run) -> set[str]:
    """What says nothing of a drafter without recursion; a block has a control of its accuracy all the same."""
    return AGAINST_CONTROL - ({"accuracy_gap"} if run.pair.guesses_side_by_side else set())


def _of_attention(name: str) -> bool:
    """Whether a number of a depth is one of attention."""
    return name in ("entropy", "control_entropy", "free_entropy") or any(share in name for share in (*SHARES, "attention", "prompt_side"))


def render(run: Run, verdict: Verdict) -> str:
    """The whole report, indented, ASCII only (so no character of it can drive a terminal), without a trailing newline."""
    return json.dumps(report(run, verdict), indent=2, allow_nan=False)


def report(run: Run, verdict: Verdict, outcomes: Sequence[Outcome] | None = None) -> dict[str, Plain]:
    """The report as plain values; outcomes: of what was tried, as `tried` tells them, where they are known already."""
    found = tried(run) if outcomes is None else outcomes
    return {
        "schema": SCHEMA,
        "pair": run.manifest["pair"],
        "decoding": {"temperature": run.spec.temperature, "draft_tokens": "greedy"},
        "verdict": {
            "severity": verdict.severity,
            "headline": verdict.headline,
            "open": verdict.open,
            "axes": {axis: _axis(found) for axis, found in verdict.axes.items()},
        },
        "baseline": baseline_json(run.against(BASELINE)),
        "rewired": baseline_json(run) | {"wiring": str(run.wiring)} if run.reference == REWIRED else None,
        "findings": [finding_json(finding) for finding in verdict.findings],
        "conditions": [condition_json(run, probe, name) for probe, name in run.conditions],
        "failed": [{"name": name, "reason": reason} for name, reason in run.failed.items()],
        "target_shift": shift_json(run, estimate_json),
        "rounding": rounding_json(run, estimate_json),
        "survival": survival_json(run, found, estimate_json),
        "mitigations": remedies_json(run, found, estimate_json),
        "payoff": payoff_json(run, estimate_json),
        "training": training_json(run, verdict, estimate_json),
        "exports": exports_json(run),
        "prompts": {"measured": len(run.prompts), "offered": run.manifest.get("n_offered", len(run.prompts) + len(run.too_short))},
        "prompts_too_short": list(run.too_short),
        "run": {
            name: run.manifest[name]
            for name in ("request", "versions", "device_name", "started", "finished", "notes", "ignored_generation_settings")
        }
        | {name: run.manifest.get(name) for name in ("target_quantisation", "twin")},
    }


def _axis(axis: AxisVerdict) -> dict[str, Plain]:
    """One axis as plain values; severity: as it was called before an axis could be open."""
    return {
        "severity": axis.state,
        "state": axis.state,
        "most_likely": axis.likely or (axis.state if axis.state in GRADED else None),
        "reason": axis.reason,
        "bound": axis.bound,
        "bound_unit": None if axis.bound is None else axis.unit,
        "more_prompts": axis.more_prompts,
        "fix": axis.fix or None,
    }


def finding_json(finding: Finding) -> dict[str, Plain]:
    """One finding as plain values."""
    number = finding.estimate
    return {
        "code": finding.code,
        "severity": finding.severity,
        "most_likely": finding.likely or finding.severity,
        "claim": finding.claim,
        "estimate": number.value,
        "low": number.low,
        "high": number.high,
        "unit": finding.unit,
        "n_prompts": number.n_prompts,
        "condition": finding.condition,
        "fix": finding.fix,
    }


def baseline_json(run: Run) -> dict[str, Plain]:
    """The headline and the curves of a run's reference as plain values."""
    length = run.estimate(walk_acceptance_length)
    recursion = None if run.pair.no_recursion is None else Absent(run.pair.no_recursion)
    return {
        **_claimed("acceptance_length", length, run.argmax_share),
        **({"acceptance_length_sampled_drafts": estimate_json(sampled_length(run, run.reference))} if run.spec.temperature else {}),
        "emitted_per_round": estimate_json(run.emitted_per_round),
        "target_argmax_share": run.argmax_share,
        "texts_with_sink": {"count": run.sink_texts[0], "of": run.sink_texts[1]},
        "self_feeding_tax": estimate_json(recursion or estimate_tax(run)),
        "handoff": estimate_json(recursion or run.estimate(handoff)),
        "by_depth": _by_depth(run),
        "by_position": [_position(run, number) for number in range(len(run.replies.bins))],
    }


def _claimed(name: str, length: Estimate | Absent, argmax_share: float) -> dict[str, Plain]:
    """An acceptance length under its name where the text is the target's own, else withheld and given as `text_match_length`."""
    if argmax_share >= EXACT_TEXT:
        return {name: estimate_json(length)}
    why = f"the given replies are the target's own choice at only {argmax_share:.1%} of their tokens; see text_match_length"
    return {name: estimate_json(Absent(why)), "text_match_length": estimate_json(length)}


def _by_depth(run: Run) -> list[Plain]:
    columns: Mapping[str, Sequence[Estimate | Absent]] = {name: run.by_depth(statistic) for name, statistic in BY_DEPTH.items()}
    rows: list[Plain] = []
    for place in range(run.spec.depth):
        here = {name: _judged(name, place, run, values[place]) for name, values in columns.items()}
        rows.append(
            {
                "depth": place + 1,
                **{name: value.value for name, value in here.items()},
                "intervals": {name: [value.low, value.high] for name, value in here.items() if isinstance(value, Estimate)},
                "absent": {name: value.reason for name, value in here.items() if isinstance(value, Absent)},
            }
        )
    return rows


def _position(run: Run, number: int) -> dict[str, Plain]:
    """A part of the replies: what drafting comes to on all that reach it, and against the first part of the same ones."""
    replies = run.replies
    start, end = replies.bins[number]
    found = {name: statistic for name, (statistic, _) in PAIRED.items() if name != "accepted_drafts"}
    return {
        "from": start,
        "to": end - 1,
        "replies": replies.reached(number),
        "ended": replies.ended_before(number),
        **_claimed("acceptance_length", replies.acceptance_length(number), run.argmax_share),
        **{name: estimate_json(_of_state(run, name, replies.estimate(number, statistic))) for name, statistic in found.items()},
        "against_first": {name: estimate_json(_of_state(run, name, _paired(run, number, name))) for name in PAIRED},
    }


def _paired(run: Run, number: int, name: str) -> Estimate | Absent:
    """A number of a part against that of the first part of the same replies, as a ratio or a difference; for all later parts at once."""
    if number == 0:
        return Absent("later parts are held against this one")
    return run.replies.against_first(number, *PAIRED[name], tries=len(run.replies.bins) - 1)


def _of_state(run: Run, name: str, value: Estimate | Absent) -> Estimate | Absent:
    """The number, absent where a drafter has no state, or no attention, of which it could be."""
    if name == "prompt_side" and not run.pair.attends:
        return Absent(str(run.pair.no_attention))
    return Absent(run.pair.no_recursion) if run.pair.no_recursion and name.startswith("rms") else value


def _judged(name: str, place: int, run: Run, value: Estimate | Absent) -> Estimate | Absent:
    """The number, or why there is none in words of its own."""
    if name == "block_independence" and not run.pair.guesses_side_by_side:
        return Absent(IN_TURN)
    if run.pair.no_recursion and name != "block_independence" and (name in against_control(run) or name.endswith("rms")):
        return Absent(run.pair.no_recursion)
    if (why := run.pair.no_attention) and _of_attention(name) and (not run.pair.attends or name in AGAINST_CONTROL or "ahead" in name):
        return Absent(why)
    if value.value is not None:
        return value
    if name == "compounding" and place == 0:
        return Absent("depth 1 is a fresh query: nothing is fed back yet")
    return Absent("no trajectory of this run has a sink") if "sink" in name else value


def condition_json(run: Run, probe: str, name: str) -> dict[str, Plain]:
    """A condition beside the reference as plain values."""
    claimed = _claimed("acceptance_length", run.estimate(walk_acceptance_length, name), run.argmax_share_of(name))
    if run.is_sampled(name) or run.spec.temperature:
        claimed["acceptance_length_sampled_drafts"] = estimate_json(sampled_length(run, name))
    return {
        "probe": probe,
        "name": name,
        **claimed,
        "ratio_to_baseline": estimate_json(run.ratio_to_baseline(walk_acceptance_length, name)),
    }


def estimate_json(value: Estimate | Absent) -> dict[str, Plain]:
    """A number with its interval, or the reason why there is none, as plain values."""
    if isinstance(value, Absent):
        return {"value": value.value, "low": None, "high": None, "n_prompts": value.n_prompts, "reason": value.reason}
    return {"value": value.value, "low": value.low, "high": value.high, "n_prompts": value.n_prompts}
