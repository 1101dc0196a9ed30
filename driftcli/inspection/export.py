"""Rows for other programs: CSV, JSON Lines or an Arrow file, written part by part, so that a large table needs little memory.

Lists stand as JSON in CSV. Bytes stand as the text that they are, with backslash escapes for what is none, in CSV and JSON Lines.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from pyarrow import ipc

from driftcli.errors import MachineError, UsageError
from driftcli.printable import printable
from driftcli.report.choices import ExportFormat
from driftcli.traces.layout import written_aside


def export(schema: pa.Schema, parts: Iterable[pa.Table], kind: ExportFormat, stream: BinaryIO, *, escaped: bool = False) -> int:
    """Write the rows to a stream; how many they are. escaped: for a terminal, which no text may drive."""
    if kind == "arrow":
        return _arrow(schema, parts, stream)
    if kind == "csv":
        stream.write(_csv_line(schema.names).encode())
    count = 0
    for row in (row for part in parts for row in part.to_pylist()):
        line = _csv_line([_flat(value) for value in row.values()]) if kind == "csv" else json.dumps(row, default=_plain) + "\n"
        stream.write((printable(line.rstrip("\n")) + "\n" if escaped else line).encode())
        count += 1
    return count


def export_to(path: Path, schema: pa.Schema, parts: Iterable[pa.Table], kind: ExportFormat, *, force: bool) -> int:
    """Write the rows to a file, aside and renamed; how many they are. Raises UsageError where it is there, unless `force`."""
    if path.exists() and not force:
        raise UsageError(f"{path}: is there already, expected a new file; name another with --out or overwrite it with --force")
    try:
        with written_aside(path) as aside, aside.open("wb") as stream:
            return export(schema, parts, kind, stream)
    except OSError as error:
        raise MachineError(f"{path}: cannot be written ({error.strerror or error}); name another file with --out") from error


def _arrow(schema: pa.Schema, parts: Iterable[pa.Table], stream: BinaryIO) -> int:
    count = 0
    with ipc.new_file(stream, schema) as writer:
        for part in parts:
            writer.write_table(part)
            count += part.num_rows
    return count


def _csv_line(values: Sequence[object]) -> str:
    line = StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _flat(value: object) -> object:
    """A value as a cell of CSV."""
    return json.dumps(value, default=_plain) if isinstance(value, list | dict) else _plain(value) if isinstance(value, bytes) else value


def _plain(value: object) -> str:
    """A value that JSON has no form for."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
