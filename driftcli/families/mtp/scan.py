"""What can be said of an MTP head without running it."""

from __future__ import annotations

from collections.abc import Iterator

from driftcli.conditions import worded
from driftcli.domain import SYSTEM_NAMES, Sourced, System
from driftcli.families.mtp.declaration import MtpDeclaration
from driftcli.families.mtp.shapes import SCALED
from driftcli.scanned import Check, Scan

ENGINES = {system: name.partition(" ")[0] for system, name in SYSTEM_NAMES.items() if system.startswith("as_served")}  # without versions


def scan_mtp(d: MtpDeclaration, *, apart: bool = False) -> Scan:
    """The scan of the head that a target carries, or of one in a folder of its own."""
    name = d.checkpoint.source.name
    dtypes = {d.checkpoint.tensors[stored].dtype for module in d.modules for stored in module.parts.values()}
    record = {**d.record(), "stored_as": Sourced(", ".join(sorted(dtypes)), "tensor")}
    readings = {str(system): d.switches(system) for system in d.kind.served if system != d.kind.declared}
    drafter, target = (name, d.target.name if d.target.name != name else None) if apart else (f"{name}, its MTP head", name)
    return Scan(drafter, target, d.kind.name, record, readings, tuple(_checks(d, dtypes)), ())


def _checks(d: MtpDeclaration, dtypes: set[str]) -> Iterator[Check]:
    several = len(d.modules)
    if d.count() > 1:
        yield Check("recursion", "note", f"{several} modules, one a depth: drift is not defined, each depth has its own weights")
    else:
        yield Check("recursion", "note", "feeds its own state back, which was trained for one step alone as far as is published")
    yield Check("output head", "ok", "a module's own") if d.kind.own_head else Check("embedding, head", "ok", "the target's")
    yield from (Check("engines", "warning", line) for line in disputed(d))
    yield from (Check("head", "note", line) for line in left_open(d, None))
    if dtypes & set(SCALED):
        yield Check("precision", "note", "8-bit floats with scales, multiplied out here; transformers forgets the scales of MTP weights")


def disputed(d: MtpDeclaration) -> list[str]:
    """What each other engine computes otherwise than the declared one, a line an engine."""
    found = []
    for system, fields in d.differences().items():
        changes = ", ".join(f"{name.replace('_', ' ')} {worded(field.value)}" for name, field in fields.items())
        ours = ENGINES.get(d.kind.declared, "the declared reading")
        found.append(f"{ENGINES.get(system, system)} computes it otherwise than {ours}: {changes}")
    return found


def left_open(d: MtpDeclaration, system: System | None) -> list[str]:
    """What a reading leaves out of the head, or what is measured of it in part alone."""
    found, count, several = [], d.count(system), len(d.modules)
    if several > count:
        found.append(f"runs the first of {several} modules at every depth, as {ENGINES.get(system or d.kind.declared, 'declared')} does")
    if d.kind.sparse:
        limit = d.config.get(d.kind.sparse)
        rows = limit if isinstance(limit, int) and not isinstance(limit, bool) else 2048
        found.append(
            f"its layer attends to all rows here, served to {rows} that its indexer picks: the same for texts of up to {rows} tokens"
        )
    return found
