"""A scan on a terminal and as JSON: how each system computes the step, what the file shows, and the traps it walks into."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from driftcli.domain import SYSTEM_NAMES, Sourced
from driftcli.printable import printable
from driftcli.report.switches import SWITCHES, written
from driftcli.report.tables import hanging
from driftcli.scanned import Scan, Unread

SCHEMA = 1
WHICH = ("capture", "pre_fc_norm", "residual", "feedback", "first_row", "rotation", "rope", "causal", "rows")  # shown even where all agree
VLLM, V1, TRAINED = "as_served:vllm", "as_served:vllm-v1", "as_trained"
SERVED_AS = {V1: VLLM}  # whose class the runner builds
SOURCED = ("capture", "residual", "feedback", "rope")  # shown above; here only whence
HIDDEN = {*SWITCHES, "format", "reading"}


def render_json(scan: Scan | Unread) -> str:
    """The whole scan, or what the checkpoint is instead and all its tensors; indented, ASCII only, without a trailing newline."""
    return json.dumps(_refused(scan) if isinstance(scan, Unread) else _read(scan), indent=2, allow_nan=False)


def _refused(found: Unread) -> dict[str, object]:
    return {"schema": SCHEMA, "drafter": found.drafter, "family": found.family, "refused": found.refusal, "tensors": dict(found.tensors)}


def _read(scan: Scan) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "drafter": scan.drafter,
        "target": scan.target,
        "format": scan.format,
        "record": _fields(scan.record),
        "readings": {system: _fields(fields) for system, fields in scan.readings.items()},
        "checks": [{"subject": check.subject, "state": check.state, "text": check.text} for check in scan.checks],
        "pitfalls": list(scan.pitfalls),
        "classes": dict(scan.classes),
    }


def _fields(fields: object) -> dict[str, dict[str, object]]:
    assert isinstance(fields, dict)
    return {name: {"value": field.value, "source": field.source} for name, field in fields.items()}


def render(scan: Scan) -> RenderableType:
    """The scan on a terminal: what is wrong first, and most costly first; what is fine in one line."""
    name = printable(scan.drafter) + (f"  for  {printable(scan.target)}" if scan.target else "  (no --target named: its sizes are open)")
    blocks: list[list[RenderableType]] = [
        [Text(name, style="bold"), Text(printable(scan.format), style="bold")],
        _findings(scan),
        [_readings(scan)] if scan.readings else [],
        [_sizes(scan)],
    ]
    parts: list[RenderableType] = []
    for block in blocks:
        parts += [*([Text()] if parts and block else []), *block]
    return Group(*parts)


def _findings(scan: Scan) -> list[RenderableType]:
    """Servers that cannot run it, what is wrong, traps, notes; then the subjects in which nothing was found."""
    warned = [check for check in scan.checks if check.state == "warning"]
    noted = [check for check in scan.checks if check.state == "note"]
    found = [
        *(("red", f"{_whose(system)}: {said}") for system, said in _refusals(scan).items()),
        *(("red", f"{check.subject}: {check.text}") for check in warned),
        *(("yellow", trap) for trap in scan.pitfalls),
        *(("", f"{check.subject}: {check.text}") for check in noted),
    ]
    fine = dict.fromkeys(check.subject for check in scan.checks if check.state == "ok")
    lines: list[RenderableType] = [Text("FINDINGS" if found else "No finding in config and headers.", style="bold")]
    lines += [hanging(printable(text), style) for style, text in found]
    return [*lines, *([hanging(f"fine: {', '.join(fine)}", "green")] if fine else [])]


def _whose(system: str) -> str:
    return "trained in a way that cannot be run here" if system == TRAINED else f"{SYSTEM_NAMES[system]} cannot run it"


def _refusals(scan: Scan) -> dict[str, str]:
    refused = {system: str(fields["refused"].value) for system, fields in scan.readings.items() if "refused" in fields}
    if refused.get(V1) == refused.get(VLLM):
        refused.pop(V1, None)
    return {system: said.removeprefix(f"{scan.drafter}: ") for system, said in refused.items()}


def _columns(scan: Scan) -> dict[str, dict[str, Sourced]]:
    """Every system's fields that can run the file, in one order, the declared reading among them."""
    declared = str(scan.record["reading"].value)
    found = {declared: dict(scan.record), **{system: dict(fields) for system, fields in scan.readings.items() if "refused" not in fields}}
    return {system: found[system] for system in SYSTEM_NAMES if system in found}


def _readings(scan: Scan) -> RenderableType:
    """One row a switch that differs or that says what kind of head this is."""
    columns, declared = _columns(scan), str(scan.record["reading"].value)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("HOW EACH SYSTEM COMPUTES IT", no_wrap=True)
    for system in columns:
        table.add_column(SYSTEM_NAMES[system] + (" (run here)" if system == declared else ""), overflow="fold")
    if scan.classes:
        table.add_row("class built", *(printable(scan.classes.get(SERVED_AS.get(system, system), "")) for system in columns))
    for switch, shown in SWITCHES.items():
        fields = [column[switch] for column in columns.values() if switch in column]
        if len(fields) < len(columns):
            continue  # a switch of another family
        differ = any(field.value != fields[0].value for field in fields)
        if differ or switch in WHICH:
            mark = Text(f"{shown}  differs", style=_doubt(fields)) if differ else Text(shown)
            table.add_row(mark, *(_value(field, fields[0], differ=differ) for field in fields))
    return table


def _doubt(fields: Sequence[Sourced]) -> str:
    """Red where what is known differs, yellow where it does by a guess at who made the head."""
    known = {str(field.value) for field in fields if not field.source.startswith("assumed")}
    return "bold red" if len(known) > 1 else "yellow"


def _value(field: Sourced, first: Sourced, *, differ: bool) -> str:
    shown = "same" if field is not first and not differ else printable(written(field.value))
    return f"{shown} (a guess)" if differ and field.source.startswith("assumed") and field.value != first.value else shown


def _sizes(scan: Scan) -> RenderableType:
    """The rest of the record with its provenance."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("RECORD", no_wrap=True)
    table.add_column("", overflow="fold")
    table.add_column("source", style="dim", overflow="fold")
    for name, field in scan.record.items():
        if name in SOURCED:
            table.add_row(SWITCHES[name], "as above", printable(field.source))
        elif name not in HIDDEN:
            table.add_row(name.replace("_", " "), printable(written(field.value)), printable(field.source))
    return table
