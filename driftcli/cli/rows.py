"""What `driftcli inspect` shows and exports: rows by a filter or a query, texts, tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import typer

from driftcli.cli.inspect import ROWS
from driftcli.cli.runs import opened_run
from driftcli.errors import MachineError, UsageError
from driftcli.inspection.export import export, export_to
from driftcli.inspection.grid import Grid
from driftcli.inspection.overview import Overview, schema_markdown
from driftcli.inspection.reading import ShownChain, ShownReply
from driftcli.inspection.where import admitting
from driftcli.printable import printable
from driftcli.report.choices import ExportFormat, TableName
from driftcli.report.console import put
from driftcli.suggestions import meant
from driftcli.traces.reader import Run
from driftcli.traces.samples import chain, reply
from driftcli.traces.tables import parts_of, plain_schema

Rows = tuple[pa.Schema, Iterator[pa.Table]]
DUCKDB = "--sql: DuckDB is not installed, which runs the query; pip install 'driftcli[sql]'"


@dataclass(frozen=True, slots=True)
class Query:
    """What was asked of which run, in the words of the command line."""

    run: Path | None
    table: TableName | None = None
    columns: str = ""
    where: str = ""
    head: int | None = None
    sql: str = ""
    export: ExportFormat | None = None
    out: Path | None = None
    force: bool = False

    @property
    def opened(self) -> Run:
        """The run."""
        if self.run is None:
            raise UsageError("inspect: no run was named, expected a folder that diagnose wrote; driftcli inspect RUN")
        return opened_run(self.run)


def refuse_mixed(query: Query, prompt: str | None, anchor: int | None, turn: int, schema: str | None) -> None:
    """UsageError for options that say nothing together."""
    asked = [name for name, given in (("--table", query.table), ("--sql", query.sql), ("--prompt", prompt), ("--schema", schema)) if given]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)}: expected one of them; leave the others out")
    rows, alone = bool(query.table or query.sql), prompt is None
    lacking = [
        ("--where", "--table", bool(query.where) and not query.table),
        ("--columns", "--table", bool(query.columns) and not query.table),
        ("--head", "--table or --sql", query.head is not None and not rows),
        ("--export", "--table or --sql", query.export is not None and not rows),
        ("--out", "--export", query.out is not None and query.export is None),
        ("--anchor", "--prompt", anchor is not None and alone),
        ("--turn", "--prompt", turn > 0 and alone),
    ]
    if found := next(((name, needed) for name, needed, wrong in lacking if wrong), None):
        raise UsageError(f"{found[0]} goes with {found[1]}; name {found[1]} too, or leave it out")


def show_schema() -> None:
    """Print the page of the schema."""
    put(schema_markdown())


def show_tables(query: Query) -> None:
    """Print the tables of the run."""
    put(Overview(query.opened))


def show_text(query: Query, prompt: str, turn: int, anchor: int | None) -> None:
    """Print a reply as text, or one chain of it."""
    run = query.opened
    found = reply(run, prompt, turn)
    put(ShownReply(found) if anchor is None else ShownChain(found, chain(run, prompt, turn, anchor)))


def show_rows(query: Query) -> None:
    """Print or export rows of a table or a query's answer, and say on stderr of what and how many."""
    run = query.opened
    with _rows(run, query) as (schema, parts):
        if query.export is None:
            most = query.head or ROWS
            _print(schema, _first(parts, most + 1), most)
        else:
            _export(query, query.export, schema, parts if query.head is None else _first(parts, query.head))


@contextmanager
def _rows(run: Run, query: Query) -> Iterator[Rows]:
    """The schema and rows of a table or of a query's answer."""
    if query.table is not None:
        yield _of_table(run, query.table, query)
        return
    try:
        from driftcli.inspection.sql import answered
    except ModuleNotFoundError as error:
        raise MachineError(DUCKDB) from error
    with answered(run.path, query.sql) as rows:
        yield rows


def _of_table(run: Run, table: TableName, query: Query) -> Rows:
    schema = plain_schema(table)
    names = [name.strip() for name in query.columns.split(",")] if query.columns else schema.names
    if strange := next((name for name in names if name not in schema.names), None):
        raise UsageError(f"--columns: {table} has no column {strange}; {meant(strange, schema.names)}expected {', '.join(schema.names)}")
    admitted = admitting(query.where, schema) if query.where else None
    return pa.schema([schema.field(name) for name in names]), parts_of(run.path, table, names, admitted)


def _first(parts: Iterator[pa.Table], count: int) -> Iterator[pa.Table]:
    """The first rows; no more parts are read than hold them."""
    for part in parts:
        yield part.slice(0, count)
        count -= part.num_rows
        if count <= 0:
            return


def _print(schema: pa.Schema, parts: Iterator[pa.Table], most: int) -> None:
    rows: Sequence[Sequence[object]] = [list(row.values()) for part in parts for row in part.to_pylist()]
    put(Grid(schema.names, rows[:most]))
    if not rows:
        typer.echo("no rows", err=True)
    if len(rows) > most:
        typer.echo(f"the first {most} rows; --head N for more, --export csv for all", err=True)


def _export(query: Query, kind: ExportFormat, schema: pa.Schema, parts: Iterator[pa.Table]) -> None:
    if query.out is not None:
        count = export_to(query.out, schema, parts, kind, force=query.force)
    elif kind == "arrow" and sys.stdout.isatty():
        raise UsageError("--export arrow: is binary and stdout a terminal; name a file with --out")
    else:
        sys.stdout.flush()
        count = export(schema, parts, kind, cast("BinaryIO", sys.stdout.buffer), escaped=sys.stdout.isatty())
    what = query.table or "the query's answer"
    typer.echo(printable(f"{what}: {count:,} rows as {kind}{f' to {query.out}' if query.out else ''}"), err=True)
