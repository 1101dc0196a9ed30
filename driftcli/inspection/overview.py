"""What the tables of a run are: rows, columns, units, meaning, on a terminal; and the page of the schema, made from the same columns."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from driftcli.printable import counted, printable
from driftcli.report.evidence import facts_line, pair_line
from driftcli.report.tables import listed
from driftcli.traces.reader import Run
from driftcli.traces.schema import COLUMNS, VERSION, Column
from driftcli.traces.tables import files_of, rows_of

ABOUT = {
    "trajectories": "one row a text: a rendered prompt and the reply to it, turn by turn",
    "steps": "one row a query of the drafter: condition, prompt, turn, anchor, depth and feed",
    "heads": "attention of each head, averaged over the anchors of a reply",
    "streams": "size of each captured stream of the target, and of what it adds to the drafter's input",
    "pieces": "what each token id stands for; one row a token of the target's tokenizer",
}
SCHEMA_HEAD = f"""# The tables of a run

Made from `driftcli/traces/schema.py` by `driftcli inspect --schema markdown`; schema version {VERSION}.

A run folder holds one folder a table and one Parquet file a cell in it (a cell is one condition on one batch of prompts), and
`pieces.parquet`. Null means that the number does not exist there, never zero. Every column carries its unit and meaning in the file's own
metadata. Columns that came with a later schema are null where an older run lacks them.
"""


@dataclass(frozen=True)
class Overview:
    """The tables of a run, laid out for the width that there is."""

    run: Run

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(pair_line(self.run), style="bold")
        yield Text(facts_line(self.run), style="dim")
        for table in COLUMNS:
            yield Text()
            yield Group(*_table(self.run, table, options.max_width))
        yield Text()
        yield from (Text(line, overflow="fold") for line in _pointers(self.run))


def _pointers(run: Run) -> list[str]:
    """What to type to look further: into rows, and into the first reply."""
    path = shlex.quote(str(run.path))
    reply = [f"a reply:      driftcli inspect {path} --prompt {shlex.quote(run.prompts[0])}"] if run.prompts else []
    return [printable(line) for line in (f"some rows:    driftcli inspect {path} --table steps", *reply)]


def _table(run: Run, table: str, width: int) -> Iterator[RenderableType]:
    rows, files = rows_of(run.path, table), len(files_of(run.path, table))
    yield Text.assemble((table, "bold"), f"  {rows:,} {'row' if rows == 1 else 'rows'} in {counted(files, 'file')}: {ABOUT[table]}")
    cells = [[Text(one.name), Text(_kind(one)), Text(one.unit), Text(_meaning(one))] for one in COLUMNS[table]]
    yield from listed(("column", "type", "unit", "meaning"), cells, 3, width)


def _kind(column: Column) -> str:
    """The type of a column in a word, a name as text."""
    return "text" if pa.types.is_dictionary(column.type) or pa.types.is_string(column.type) else str(column.type).replace("item: ", "")


def _meaning(column: Column) -> str:
    return column.meaning if not column.nullable or "null" in column.meaning else f"{column.meaning}; may be null"


def schema_markdown() -> str:
    """The page of the schema as Markdown, without a trailing newline."""
    parts = [SCHEMA_HEAD.rstrip()]
    for table, columns in COLUMNS.items():
        rows = [f"| `{one.name}` | {_kind(one)} | {one.unit or ' '} | {_meaning(one)} |" for one in columns]
        head = ["| column | type | unit | meaning |", "|---|---|---|---|"]
        parts.append("\n".join([f"## {table}\n\n{ABOUT[table].capitalize()}.\n", *head, *rows]))
    return "\n\n".join(parts)
