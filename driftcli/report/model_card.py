"""A block for a drafter's README on the hub: `model-index` metadata, and a few lines for people.

Each number is named by its definition, depth and rule; the metric's arguments say on what it was measured. Target and prompts decide what a
drafter is worth, so a number without them would say nothing. Only what has an interval is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import yaml

from driftcli.domain import BUNDLED, Absent, Estimate, Verdict
from driftcli.errors import RunError
from driftcli.printable import counted, printable
from driftcli.report import evidence
from driftcli.report.markdown import escaped, table
from driftcli.report.verdict import GRADED
from driftcli.statistics import curves
from driftcli.traces.reader import Run
from driftcli.traces.writer import Plain

GREEDY, REJECTION = "greedy", "rejection sampling"  # rules by which draft tokens are accepted
WALK = "1 + mean accepted draft tokens a verification over the walk of decoding, with the bonus token, pooled over prompts"
WHOLE = "tokens a round of decoding emits over whole replies, the last rounds included, as a server counts"
COMPOUNDING = "share of the accuracy at this depth lost to feeding on the own hidden state, beyond the hand-off"
FIRST = "share of right first draft tokens"
ON_STATE = ", on the target's hidden state"


@dataclass(frozen=True, slots=True)
class Metric:
    """A number of the card: its type, its name in words, what it is, at which depth and by which rule, and its estimate."""

    type: str
    name: str
    definition: str
    depth: int
    rule: str
    value: Estimate


def render(run: Run, verdict: Verdict) -> str:
    """The block, without a trailing newline; raises RunError for a run without a number to give."""
    found = list(metrics(run))
    if not found:
        raise RunError(f"{run.path}: no number of this run has an interval, so a model card would be empty; measure 8 prompts or more")
    front = yaml.safe_dump(metadata(run, found), sort_keys=False, allow_unicode=False, width=1000)
    return f"---\n{front}---\n\n{_text(run, verdict, found)}"


def metrics(run: Run) -> Iterator[Metric]:
    """The numbers that the run has."""
    depth, rule = run.spec.depth, GREEDY
    drafts = "greedy draft tokens, " if run.spec.temperature else ""
    length = evidence.length_name(run)
    first = FIRST if run.pair.reads_tokens_alone else FIRST + ON_STATE
    asked: list[tuple[str, str, str, int, str, Estimate | Absent]] = [
        (length.replace(" ", "-"), length, WALK, depth, rule, run.estimate(curves.walk_acceptance_length)),
        ("acceptance-length-whole-replies", "acceptance length over whole replies", WHOLE, depth, rule, run.emitted_per_round),
        ("accuracy", "accuracy of the first draft token", first, 1, rule, run.by_depth(curves.forced_accuracy)[0]),
    ]
    if run.spec.temperature:
        sampled = evidence.sampled_length(run, run.reference)
        asked.insert(1, ("acceptance-length", "acceptance length", WALK, depth, REJECTION, sampled))
    if run.pair.no_recursion is None:
        asked.append(("compounding", "loss by compounding", COMPOUNDING, depth, rule, run.by_depth(curves.compounding)[-1]))
    for kind, name, definition, at, by, value in asked:
        if isinstance(value, Estimate):
            decoded = f"{drafts if by == GREEDY else ''}{by}{f' at temperature {run.spec.temperature:g}' if run.spec.temperature else ''}"
            yield Metric(kind, f"{name} (depth {at}, {decoded})", definition, at, by, value)


def metadata(run: Run, found: list[Metric]) -> dict[str, Plain]:
    """What stands between the dashes, as the hub reads it."""
    name = printable(run.pair.drafter.name.removeprefix(BUNDLED))
    result: dict[str, Plain] = {
        "task": {"type": "text-generation", "name": "Speculative decoding"},
        "dataset": {"type": "custom", "name": _prompts(run)},
        "metrics": [_metric(run, one) for one in found],
    }
    return {"model-index": [{"name": PurePosixPath(name).name or name, "results": [result]}]}


def _metric(run: Run, one: Metric) -> Plain:
    number = one.value
    return {"type": one.type, "value": round(number.value, 4), "name": one.name, "args": {**_own(one), **_measured(run)}}


def _own(one: Metric) -> dict[str, Plain]:
    number = one.value
    interval: list[Plain] = [round(number.low, 4), round(number.high, 4)]
    return {"definition": one.definition, "depth": one.depth, "rule": one.rule, "n_prompts": number.n_prompts, "interval_95": interval}


def _measured(run: Run) -> dict[str, Plain]:
    """On what all numbers were measured."""
    request, versions = run.manifest["request"], run.manifest["versions"]
    assert isinstance(request, Mapping)
    assert isinstance(versions, Mapping)
    template = run.manifest.get("chat_template_sha256")
    return {
        "target": printable(run.pair.target.name),
        "target_revision": None if run.pair.target.revision is None else printable(run.pair.target.revision),
        "template_sha256": printable(str(template)) if template else None,
        "temperature": run.spec.temperature,
        "dtype": printable(str(request["dtype"])),
        "max_new_tokens": run.spec.max_new_tokens,
        "driftcli": printable(str(versions.get("driftcli"))),
    }


def _prompts(run: Run) -> str:
    """Which prompts, as far as the run says."""
    asked = run.manifest.get("asked")
    given = asked.get("prompts") if isinstance(asked, dict) else None
    which = f"of {PurePosixPath(str(given)).name}" if given else "of driftcli's own" if asked else "of their own"
    return printable(f"{counted(len(run.prompts), 'prompt')} {which}")


def _text(run: Run, verdict: Verdict, found: list[Metric]) -> str:
    """The same for people."""
    rows = [
        [escaped(one.name), f"{_written(one)} [{_written(one, 'low')}, {_written(one, 'high')}]", str(one.value.n_prompts)] for one in found
    ]
    template = _measured(run)["template_sha256"]
    lines = [
        "## Speculative decoding",
        "",
        f"Measured with driftcli as a drafter of {escaped(printable(run.pair.target.name))}: {escaped(evidence.facts_line(run))}"
        f"{f', chat template {template}' if template else ''}.",
        "",
        *table(("", "value, 95% interval", "prompts"), ("---", "--:", "--:"), rows),
        "",
        f"Verdict: {escaped(evidence.banner(verdict).lower())}; {escaped(printable(verdict.headline))}.",
        *[
            f"- {finding.code} ({finding.severity}): {escaped(printable(finding.claim))}"
            for finding in verdict.findings
            if finding.severity in GRADED
        ],
    ]
    return "\n".join(lines)


def _written(one: Metric, side: str = "value") -> str:
    number = {"value": one.value.value, "low": one.value.low, "high": one.value.high}[side]
    return f"{number:z.0%}" if one.type in ("accuracy", "compounding") else f"{number:.2f}"
