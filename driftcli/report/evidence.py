"""What every report for a person shows of the measurement, before any layout: the verdict, the facts of the run, its curves by depth.

All text that comes from outside (names, ids, claims, paths) leaves this module printable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from driftcli.conditions import BASELINE
from driftcli.domain import SHARES, SYSTEM_NAMES, SYSTEMS, Absent, Estimate, Finding, Verdict
from driftcli.mitigations.probe import MITIGATED
from driftcli.printable import counted, printable
from driftcli.report.tables import Row
from driftcli.report.verdict import GRADED
from driftcli.statistics import curves
from driftcli.statistics.positions import accepted
from driftcli.statistics.walks import EXACT_TEXT, Floats, Sums
from driftcli.traces.reader import Run

REGION_MEANING: dict[str, str] = {
    "template": "chat markup",
    "prompt": "message content",
    "verified": "reply so far",
    "ahead": "its own draft tokens",
    "recent": "last 4 keys, any region",
}
KEPT = "accepted draft tokens, against the baseline's"  # heading of what conditions keep
AGAINST_FIRST = "accepted draft tokens, against the same replies' first tokens"  # heading of what later parts of replies keep
TOO_FEW = "too few prompts for an interval"  # in place of one; how many there are stands beside what is not judged for that reason
Form = Literal["percent", "low", "high", "times", "number", "score", "points"]


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a table by depth: its name, its numbers, how they are written, a remark, and whether a page does without it."""

    name: str
    statistic: Callable[[Sums], Floats]
    form: Form
    remark: str = ""
    detail: bool = False  # left out of the page

    def row(self, run: Run) -> Row:
        """The line of a run."""
        return Row(self.name, written(run.by_depth(self.statistic), self.form), self.remark)


def written(values: Sequence[Estimate | Absent], form: Form) -> list[str]:
    """Numbers by depth as text."""
    return [_FORMS[form](value) for value in values]


def banner(verdict: Verdict) -> str:
    """The severity in capitals, what is sure and what is most likely, and that it is drift where the drift axis decided it; `healthy` is
    claimed for what was measured only.
    """
    drift = verdict.axes["drift"]
    if verdict.severity == "not applicable":
        return "DRIFT NOT APPLICABLE"
    if verdict.severity == "healthy":
        whole = all(axis.state in ("healthy", "not applicable") for axis in verdict.axes.values())
        return "HEALTHY" if whole else "NO DRIFT FOUND" if drift.state == "open" else "NO DRIFT"
    deciding = next((axis for axis in verdict.axes.values() if axis.state == verdict.severity), drift)
    sure = f"AT LEAST {verdict.severity.upper()}" if deciding.likely not in (None, verdict.severity) else verdict.severity.upper()
    likely = f" (most likely {deciding.likely})" if sure.startswith("AT LEAST") else ""
    graded = drift.state == verdict.severity and drift.state in GRADED
    return f"{sure}{' DRIFT' * graded}{likely}"


def pair_line(run: Run) -> str:
    """Target and drafter by name."""
    return f"{printable(run.pair.target.name)}  <-  {printable(run.pair.drafter.name)}"


def facts_line(run: Run) -> str:
    """How the run was measured: prompts, depth, decoding, precision, device, time, and how the head is wired."""
    request = run.manifest["request"]
    assert isinstance(request, Mapping)
    facts = [
        _prompts(run),
        f"depth {run.spec.depth}",
        _decoding(run),
        f"{request['dtype']} on {request['device']}{_engine(request.get('engine'))}",
        *_weights(run),
        *_duration(run),
    ]
    feedback, norms = run.pair.record.get("feedback"), run.pair.record.get("pre_fc_norm")
    reading = run.pair.record.get("reading")
    facts += [f"reading: {SYSTEM_NAMES[str(reading.value)]}"] if reading and reading.value != SYSTEMS[0] else []
    facts += [f"{feedback.value} feedback", f"fc norm {norms.value}"] if feedback and norms else []
    return printable(" · ".join(facts))


def _engine(served: object) -> str:
    """What served the target, where that was an engine."""
    if not isinstance(served, Mapping):
        return ""
    scheme = served.get("quantisation")
    return f" in {served.get('engine')} {served.get('version')}{f', {scheme}' if scheme else ''}"


def _weights(run: Run) -> list[str]:
    """How the target's weights are quantised, where no engine is named that tells it."""
    scheme, request = run.manifest.get("target_quantisation"), run.manifest["request"]
    assert isinstance(request, Mapping)
    return [f"target's weights: {scheme}"] if isinstance(scheme, str) and not request.get("engine") else []


def _decoding(run: Run) -> str:
    """How replies came about, and at what temperature probabilities are told."""
    given = "" if all(run.trajectories["generated"].to_pylist()) else "given replies"
    drawn = f"temperature {run.spec.temperature:g}" if run.spec.temperature else ""
    return ", ".join(filter(None, (given, drawn))) or "greedy"


def _prompts(run: Run) -> str:
    """How many prompts, and of how many where not all that there were are used."""
    offered, used = run.manifest.get("n_offered"), len(run.prompts)
    return f"{used} of {offered} prompts" if isinstance(offered, int) and offered > used else counted(used, "prompt")


def _duration(run: Run) -> list[str]:
    started, finished = run.manifest.get("started"), run.manifest.get("finished")
    if not isinstance(started, str) or not isinstance(finished, str):
        return []
    seconds = max(round((datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()), 0)
    return [f"{seconds // 3600} h {seconds % 3600 // 60} min" if seconds >= 3600 else spent(seconds)]


def spent(seconds: float) -> str:
    """A time in minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def length_lines(run: Run) -> list[str]:
    """Acceptance length under the name it may claim, tokens a round over whole replies, and what self-feeding costs at most."""
    why = f" (the target's own choice at only {run.argmax_share:.0%} of the tokens)" if run.argmax_share < EXACT_TEXT else ""
    lines = [f"{length_name(run)}{why}{_rule(run)} {_interval(run.estimate(curves.walk_acceptance_length), '.2f')}"]
    if run.reference != BASELINE:
        declared = _interval(run.estimate(curves.walk_acceptance_length, BASELINE), ".2f")
        lines = [f"{lines[0]} with {printable(str(run.wiring))}, on which all below is measured; as declared {declared}"]
    if (emitted := run.emitted_per_round).value is not None:
        lines[0] += f"; over whole replies, as a server counts, {_interval(emitted, '.2f')}"
    if run.spec.temperature:
        sampled = _interval(sampled_length(run, run.reference), ".2f")
        lines.append(f"acceptance length of sampled draft tokens, by rejection sampling at temperature {run.spec.temperature:g}, {sampled}")
    if run.pair.no_recursion is None:
        lost = _interval(curves.estimate_tax(run), "z.0%")
        lines.append(f"at most {lost} of the draft tokens that could be accepted are lost to self-feeding")
    return lines


def _rule(run: Run) -> str:
    """By which rule draft tokens are accepted, where there are two."""
    return f" of greedy draft tokens at temperature {run.spec.temperature:g}," if run.spec.temperature else ""


def sampled_length(run: Run, condition: str) -> Estimate | Absent:
    """Acceptance length of draft tokens that are sampled and verified by rejection sampling; absent where the replies were not drawn so."""
    if not run.is_sampled(condition):
        return Absent("it is exact on replies alone that the target drew behind these very prompts")
    return run.estimate(curves.sampled_length, condition)


OF_ALL = "of the draft tokens"


def main_curves(run: Run) -> list[Curve]:
    """Accuracy on either state, what is lost between them, and what the state does; for a drafter without recursion only its accuracy."""
    kept = Curve("accepted to this depth", curves.joint_walk, "percent", "of verify rounds")
    if run.pair.copies:
        found = Curve("proposed", curves.proposed, "percent", "of the anchors, where a lookup finds so many tokens")
        return [found, Curve("accuracy", curves.forced_accuracy, "percent", "of the anchors, one without a token wrong"), kept]
    if run.pair.no_recursion is not None:
        return [
            *(
                _of_blocks(corrected=run.pair.corrects_blocks)
                if run.pair.guesses_side_by_side
                else [Curve("accuracy", curves.forced_accuracy, "percent", OF_ALL)]
            ),
            kept,
        ]
    handed = run.estimate(curves.handoff)
    cost = "" if handed.value is None else f"the hand-off costs {handed.value:z.0%}"
    ends = [
        Curve("  95% low", curves.compounding, "low", detail=True),
        Curve("  95% high", curves.compounding, "high", detail=True),
    ]
    return [
        Curve("accuracy, target state", curves.fresh_accuracy, "percent", "the head at its best"),
        Curve("accuracy, own state", curves.forced_accuracy, "percent", cost),
        Curve("lost by compounding", curves.compounding, "percent", "loss beyond the hand-off"),
        *(ends if isinstance(handed, Estimate) else []),
        kept,
        Curve("hidden state RMS", curves.rms_ratio, "times", "over the target-fed state"),
        Curve("hidden state cosine", curves.state_cosine, "number", "with the target-fed state", detail=True),
    ]


def _of_blocks(*, corrected: bool) -> list[Curve]:
    """What a block guesses right, beside what it does once the tokens before are known."""
    known = "of the right guesses: each knows only the one before" if corrected else "of the right guesses: none knows the others"
    ends = [
        Curve("  95% low", curves.block_independence, "low", detail=True),
        Curve("  95% high", curves.block_independence, "high", detail=True),
    ]
    return [
        Curve("accuracy, first of a block", curves.fresh_accuracy, "percent", "the same token, those before it verified"),
        Curve("accuracy in its block", curves.forced_accuracy, "percent", OF_ALL),
        Curve("lost side by side", curves.block_independence, "percent", known),
        *ends,
    ]


def attention_curves(run: Run) -> tuple[str, list[Curve]]:
    """A heading, and attention by region: its change against the control, or plain shares where there is none to hold it against; nothing
    for a drafter without attention.
    """
    if not run.pair.attends:
        return "", []
    with_sink, texts = run.sink_texts
    meaning = {**REGION_MEANING, "sink": f"one token, in {with_sink} of {counted(texts, 'text')}"}
    if run.pair.attention_controlled:
        heading = "attention, change in percentage points against the same query on the target's hidden state"
        return heading, [Curve(name, curves.region_change(name), "points", meaning[name]) for name in SHARES]
    heading, shown = "attention of the drafter, share of each region", [name for name in SHARES if name != "ahead" or not run.pair.keyless]
    return heading, [Curve(name, curves.share("forced", name), "percent", meaning[name]) for name in shown]


def condition_rows(run: Run) -> list[tuple[str, str, str, str]]:
    """Of each condition as deep as the run: probe, name, acceptance length, and accepted drafts over those of what it is held against,
    paired. Shallower ones settle how the drafter is put together and say so elsewhere, as mitigations do. Sampled replies have a second
    row, for drafts that are sampled too.
    """
    rows = []
    for probe, name in run.conditions:
        if name == run.reference or run.depth_of(name) != run.spec.depth or probe in (MITIGATED, "wiring"):
            continue
        length, kept = run.estimate(curves.walk_acceptance_length, name), run.ratio_to_baseline(curves.accepted_drafts, name)
        sampled = run.is_sampled(name)
        words = f"{name}, greedy draft tokens" if sampled else name
        known = _interval(length, ".2f") if isinstance(length, Estimate) else "unknown" if length.value is None else f"{length.value:.2f}"
        rows.append((probe, words, known, f"{_interval(kept, 'z.0%')}{_own_count(run, kept)}"))
        if sampled:
            rows.append((probe, f"{name}, sampled draft tokens", _interval(sampled_length(run, name), ".2f"), ""))
    return [(printable(probe), printable(name), *numbers) for probe, name, *numbers in rows]  # type: ignore[misc]


def position_rows(run: Run) -> list[tuple[str, str, str, str]]:
    """Of each part of the replies, where there are several: its tokens, how many replies reach it and how many ended before, acceptance
    length, and accepted drafts over those in the first part of the same replies.
    """
    replies, rows = run.replies, []
    for number, (start, end) in enumerate(replies.bins if len(replies.bins) > 1 else []):
        reached = f"{replies.reached(number)}, {replies.ended_before(number)} ended before"
        kept = replies.against_first(number, accepted, tries=len(replies.bins) - 1) if number else None
        length = _interval(replies.acceptance_length(number), ".2f")
        rows.append((f"{start}-{end - 1}", reached, length, "" if kept is None else _interval(kept, "z.0%")))
    return rows


def length_name(run: Run) -> str:
    """What the acceptance length may be called: on given replies it is none."""
    return "acceptance length" if run.argmax_share >= EXACT_TEXT else "text match length"


def grade(finding: Finding) -> str:
    """A finding's severity in the word that reports show, with a plus where more than that is most likely."""
    return "note" if finding.severity == "healthy" else f"{finding.severity}{'+' * (finding.likely not in (None, finding.severity))}"


def _own_count(run: Run, value: Estimate | Absent) -> str:
    """Of how many prompts a number is, where they are not the run's."""
    return "" if value.n_prompts is None or value.n_prompts == run.n_prompts else f" of {counted(value.n_prompts, 'prompt')}"


def _interval(value: Estimate | Absent, form: str) -> str:
    if isinstance(value, Absent):
        return f"unknown ({value.reason})" if value.value is None else f"{value.value:{form}} ({TOO_FEW})"
    return f"{value:{form}}"


_FORMS: dict[Form, Callable[[Estimate | Absent], str]] = {
    "percent": lambda value: "-" if value.value is None else f"{value.value:z.0%}",
    "low": lambda value: "" if isinstance(value, Absent) else f"{value.low:z.0%}",
    "high": lambda value: "" if isinstance(value, Absent) else f"{value.high:z.0%}",
    "times": lambda value: "-" if value.value is None else f"{value.value:.2f}x",
    "number": lambda value: "-" if value.value is None else f"{value.value:z.2f}",
    "score": lambda value: "-" if value.value is None else f"{value.value:z.3f}",
    "points": lambda value: "-" if value.value is None else f"{100 * value.value:+z.1f}",
}
