"""What can be said of a Gemma 4 assistant without running it."""

from __future__ import annotations

from collections.abc import Iterator

from driftcli.domain import SYSTEM_NAMES, Sourced
from driftcli.families.assistant.declaration import SERVED, AssistantDeclaration, turned_apart
from driftcli.families.quantisation import FLOATS
from driftcli.scanned import Check, Scan

NO_KEYS = "it keeps no keys of its own, so attention to its own draft tokens is not defined: drift can show in its state alone"


def scan_assistant(d: AssistantDeclaration) -> Scan:
    """The scan of an assistant; the refusals stand behind its declaration."""
    dtypes = sorted({stored.dtype for stored in d.checkpoint.tensors.values()})
    record = {**d.record(), "stored_as": Sourced(", ".join(dtypes), "tensor")}
    readings = {str(system): d.switches(system) for system in SERVED if system != d.record()["reading"].value}
    return Scan(d.checkpoint.source.name, d.target.named, d.format.name, record, readings, tuple(_checks(d, dtypes)), ())


def _checks(d: AssistantDeclaration, dtypes: list[str]) -> Iterator[Check]:
    yield Check("recursion", "note", f"feeds its own state back; {NO_KEYS}")
    yield Check("keys", "note", f"its layers read those of the target's layers {d.record()['keys_of'].value}")
    yield Check("embedding, head", "ok", "the target's embedding, an output head of its own")
    yield from (Check("engines", "warning", line) for line in disputed(d))
    yield from (Check("rope", "warning", line) for line in turned_apart(d))
    if d.chosen is not None:
        yield Check("vocabulary", "note", f"scores the tokens of the {d.chosen} likeliest clusters alone; the others are never drafted")
    if odd := [dtype for dtype in dtypes if dtype not in (*FLOATS, "I64", "I32")]:
        yield Check("precision", "warning", f"holds numbers stored as {', '.join(odd)}")


def disputed(d: AssistantDeclaration) -> list[str]:
    """What each other engine computes otherwise than vLLM, a line an engine."""
    found = []
    for system, fields in d.differences().items():
        said = ", ".join(f"{name} {field.value}" for name, field in fields.items())
        found.append(f"{SYSTEM_NAMES.get(system, system)} computes it otherwise than vLLM: {said}")
    return found


def left_open(d: AssistantDeclaration) -> list[str]:
    """What a run of it leaves out."""
    return [NO_KEYS, *turned_apart(d)]
