"""`driftcli inspect RUN`: the tables of a run, their rows, and replies and chains as text. Imports no torch."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from driftcli.report.choices import ExportFormat, TableName

ROWS = 20  # of a table that are shown unless told (chosen by us)


def inspect(
    run: Annotated[Path | None, typer.Argument(help="Run folder to look into.")] = None,
    table: Annotated[TableName | None, typer.Option(help="Show rows of this table.")] = None,
    columns: Annotated[str, typer.Option(help="Of --table: columns, with commas between.")] = "",
    where: Annotated[str, typer.Option(help="Of --table: rows such as `depth == 3 and feed == 'forced' and not match`.")] = "",
    head: Annotated[int | None, typer.Option(min=1, help=f"How many rows; {ROWS} are shown and all exported unless told.")] = None,
    sql: Annotated[str, typer.Option(help="A query over the tables, by DuckDB: pip install 'driftcli[sql]'.")] = "",
    prompt: Annotated[str | None, typer.Option(help="Show the reply to this prompt as text, draft tokens marked.")] = None,
    turn: Annotated[int, typer.Option(min=0, help="Of --prompt: which reply, from 0.")] = 0,
    anchor: Annotated[int | None, typer.Option(min=0, help="Of --prompt: one chain depth by depth, its control beside it.")] = None,
    export: Annotated[ExportFormat | None, typer.Option(help="Write the rows of --table or --sql instead of showing them.")] = None,
    out: Annotated[Path | None, typer.Option(help="Of --export: a file instead of stdout.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Of --out: overwrite it.")] = False,
    schema: Annotated[Literal["markdown"] | None, typer.Option(help="Print what every column of every table means; needs no RUN.")] = None,
) -> None:
    """Look into RUN: its tables with rows, columns, units and meaning; some of their rows; a reply as text; a chain depth by depth."""
    from driftcli.cli import rows

    query = rows.Query(run, table, columns, where, head, sql, export, out, force)
    rows.refuse_mixed(query, prompt, anchor, turn, schema)
    if schema:
        rows.show_schema()
    elif prompt is not None:
        rows.show_text(query, prompt, turn, anchor)
    elif table or sql:
        rows.show_rows(query)
    else:
        rows.show_tables(query)
