"""What can be said of heads without attention without running them."""

from __future__ import annotations

from collections.abc import Iterator

from driftcli.domain import Sourced
from driftcli.families.feed_forward.declaration import FeedForwardDeclaration
from driftcli.families.feed_forward.formats import MEDUSA
from driftcli.scanned import Check, Scan

NO_ATTENTION = "it has no attention, so none is measured"
SERVED = "vLLM up to 0.32 served it; 0.33 and SGLang 0.5.23 have no class for it"
TEMPERED = "its state is normed at every step, so it can hardly grow"


def scan_feed_forward(d: FeedForwardDeclaration) -> Scan:
    """The scan of heads; the refusals stand behind their declaration."""
    dtypes = sorted({stored.dtype for stored in d.checkpoint.tensors.values()})
    record = {**d.record(), "stored_as": Sourced(", ".join(dtypes), "tensor")}
    return Scan(d.checkpoint.source.name, d.target.named, d.format.name, record, {}, tuple(_checks(d)), d.pitfalls)


def _checks(d: FeedForwardDeclaration) -> Iterator[Check]:
    count = len(d.stages)
    said = f"feeds its own state back; {TEMPERED}" if d.no_recursion is None else f"{d.no_recursion}: drift is not defined for it"
    yield Check("recursion", "note", f"{count} heads, one a draft token; {said}")
    yield Check("attention", "note", NO_ATTENTION)
    yield Check("engines", "note", SERVED if d.format.name in (MEDUSA, "MLPSpeculator") else "its authors' own code serves it")
    if d.target.vocabulary is not None and d.vocabulary != d.target.vocabulary:
        yield Check("vocabulary", "note", f"scores the first {d.vocabulary} of {d.target.vocabulary} tokens")


def left_open(d: FeedForwardDeclaration) -> list[str]:
    """What a run of them leaves out."""
    return [NO_ATTENTION, *d.pitfalls]
