"""What a run's dtype does to its draft tokens, in a line for people and as plain values for scripts."""

from __future__ import annotations

from collections.abc import Callable

from driftcli.domain import Absent, Estimate
from driftcli.printable import counted
from driftcli.statistics.rounding import shares
from driftcli.traces.manifest import rounding_of
from driftcli.traces.reader import Run
from driftcli.traces.writer import Plain


def rounding_lines(run: Run) -> list[str]:
    """How many draft tokens are others in float32, or why nobody knows; nothing of a run in float32, or of an older one."""
    found, dtype = rounding_of(run.manifest), _asked(run)
    if found is None:
        return []
    if found.reason:
        return [f"how many draft tokens {dtype} changes against float32 was not measured: {found.reason}"]
    anchors, tokens = shares(found.prompts, run.spec.seed)
    where = f"{counted(found.texts, 'text')} ({counted(found.tokens, 'token')})"
    return [
        f"{dtype} against float32, measured again on {where}: another draft token at {_shown(anchors)} of the anchors, "
        f"{_shown(tokens)} of all draft tokens"
    ]


def rounding_json(run: Run, number: Callable[[Estimate | Absent], Plain]) -> Plain:
    """The same as plain values."""
    found = rounding_of(run.manifest)
    if found is None:
        return None
    counts: dict[str, Plain] = {"texts": found.texts, "tokens": found.tokens, "reason": found.reason or None}
    if found.reason:
        return {**counts, "other_anchors": None, "other_draft_tokens": None}
    anchors, tokens = shares(found.prompts, run.spec.seed)
    return {**counts, "other_anchors": number(anchors), "other_draft_tokens": number(tokens)}


def _asked(run: Run) -> str:
    """What a run was computed in."""
    request = run.manifest["request"]
    assert isinstance(request, dict)
    return str(request["dtype"])


def _shown(share: Estimate | Absent) -> str:
    """A share with its interval, or alone where there are too few prompts for one."""
    if share.value is None:
        return "an unknown share"
    return f"{share:.1%}" if isinstance(share, Estimate) else f"{share.value:.1%}"
