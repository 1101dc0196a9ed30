"""A scan on a terminal and as JSON: how each system computes the step, what the file shows, and the traps it walks into."""

from __future__ import annotations

import json

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from driftcli.domain import Sourced
from driftcli.printable import printable
from driftcli.report.switches import SWITCHES, SYSTEM_NAMES, written
from driftcli.report.tables import hanging
from driftcli.scanned import Check, Scan

SCHEMA = 1
WHICH = ("capture", "pre_fc_norm", "residual", "feedback", "rope")  # shown even where all agree
COLOURS = {"ok": "green", "note": "yellow", "warning": "red"}
SOURCED = ("capture", "residual", "feedback", "rope")  # shown above; here only whence
HIDDEN = {*SWITCHES, "format", "reading"}


def render_json(scan: Scan) -> str:
    """The whole scan, indented, ASCII only, without a trailing newline."""
    content = {
        "schema": SCHEMA,
        "drafter": scan.drafter,
        "target": scan.target,
        "format": scan.format,
        "record": _fields(scan.record),
        "readings": {system: _fields(fields) for system, fields in scan.readings.items()},
        "checks": [{"subject": check.subject, "state": check.state, "text": check.text} for check in scan.checks],
        "pitfalls": list(scan.pitfalls),
    }
    return json.dumps(content, indent=2, allow_nan=False)


def _fields(fields: object) -> dict[str, dict[str, object]]:
    assert isinstance(fields, dict)
    return {name: {"value": field.value, "source": field.source} for name, field in fields.items()}


def render(scan: Scan) -> RenderableType:
    """The scan on a terminal."""
    name = printable(scan.drafter) + (f"  for  {printable(scan.target)}" if scan.target else "  (no --target named: its sizes are open)")
    blocks: list[list[RenderableType]] = [
        [Text(name, style="bold"), Text(printable(scan.format), style="bold")],
        [_readings(scan)] if scan.readings else [],
        [hanging(f"{SYSTEM_NAMES[system]} cannot run it: {said}") for system, said in _refusals(scan).items()],
        [_sizes(scan)],
        [_checks(scan)],
        [Text("KNOWN TRAPS", style="bold"), *(hanging(printable(trap)) for trap in scan.pitfalls)]
        if scan.pitfalls
        else [Text("No known trap of this layout." if scan.readings else "", style="bold")],
    ]
    parts: list[RenderableType] = []
    for block in blocks:
        parts += [*([Text()] if parts and block else []), *block]
    return Group(*parts)


def _refusals(scan: Scan) -> dict[str, str]:
    return {system: printable(str(fields["refused"].value)) for system, fields in scan.readings.items() if "refused" in fields}


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
    for switch, shown in SWITCHES.items():
        values = [fields[switch].value for fields in columns.values()]
        differ = any(value != values[0] for value in values)
        if differ or switch in WHICH:
            mark = Text(f"{shown}  differs" if differ else shown, style="bold red" if differ else "")
            table.add_row(mark, *(printable(written(value)) for value in values))
    return table


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


def _checks(scan: Scan) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("CHECKS", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for check in sorted(scan.checks, key=_rank):
        table.add_row(check.subject, Text(check.state, style=COLOURS[check.state]), Text(printable(check.text)))
    return table


def _rank(check: Check) -> int:
    return ("warning", "note", "ok").index(check.state)
