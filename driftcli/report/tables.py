"""Tables that fit the terminal they are shown on: never wider, and nothing of a row vanishes.

Of a table by depth as many depths are shown as fit, the last always among them; remarks that do not fit beside it stand below. A list whose
columns do not fit side by side takes lines of its own for each row. Rich's markup is never interpreted: all text comes as `Text`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

DEPTHS = 8  # columns of a table by depth that fit 100 characters beside its remarks
CELL, GAP = 5, 1  # characters of a number by depth at least, and between two of them
REMARK = 26  # characters that a remark is given beside a table by depth, where there is room (chosen by us)
WRAPPED = 28  # least characters of a column of sentences, else each row takes lines of its own (chosen by us)
INDENT = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table by depth, as text: its name, a cell for every depth of the run, and a remark."""

    name: str
    cells: Sequence[str]
    remark: str = ""


def shown_depths(depth: int, columns: int = DEPTHS) -> list[int]:
    """Depths that a table of so many columns shows: all where they fit, else the first three and an even choice up to the last."""
    if depth <= columns:
        return list(range(1, depth + 1))
    first = max(0, min(3, columns - 2))
    rest = columns - first
    return [*range(1, first + 1), *(first + round((depth - first) * step / rest) for step in range(1, rest + 1))]


def by_depth(corner: str, rows: Sequence[Row], width: int) -> list[RenderableType]:
    """A table by depth of at most so many characters; below it the remarks that it has no room for."""
    depth, cell = len(rows[0].cells), GAP + max(CELL, *(len(one) for row in rows for one in row.cells))
    names = min(max(len(one) for one in (corner, *(row.name for row in rows))), max(12, width * 2 // 5))
    columns = max(1, min((width - names) // cell, DEPTHS), (width - names - REMARK) // cell)
    shown = shown_depths(depth, columns)
    beside = width - names - len(shown) * cell - GAP >= REMARK
    table = Table(box=None, padding=(0, GAP, 0, 0), header_style="bold", pad_edge=False)
    table.add_column(corner, width=names)
    for one in shown:
        table.add_column(str(one), justify="right", no_wrap=True, min_width=CELL)
    if beside:
        table.add_column("", style="dim")
    for row in rows:
        table.add_row(row.name, *(row.cells[one - 1] for one in shown), *([row.remark] if beside else []))
    below = [] if beside else [hanging(f"{row.name.strip()}: {row.remark}") for row in rows if row.remark]
    return [table, *below]


def listed(heads: Sequence[str], rows: Sequence[Sequence[Text]], sentence: int, width: int) -> list[RenderableType]:
    """A heading and a block for each row: in columns where they fit with the sentence (the column of that number) wrapped, else the row's
    first cells in a line and the others below, indented.
    """
    widths = [max(len(head), *(len(row[column]) for row in rows)) for column, head in enumerate(heads)]
    fixed = sum(size + 2 for column, size in enumerate(widths) if column != sentence)
    if width - fixed >= min(WRAPPED, widths[sentence]):
        widths[sentence] = min(widths[sentence], width - fixed)
        return [_in_columns([Text(head, style="bold") for head in heads], widths), *(_in_columns(row, widths) for row in rows)]
    bold = [Text(head, style="bold") for head in heads]
    return [line for row in (bold, *rows) for line in _stacked(row, sentence)]


def _in_columns(cells: Sequence[Text], widths: Sequence[int]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    for size in widths:
        table.add_column(width=size, overflow="fold")
    table.add_row(*cells)
    return table


def _stacked(row: Sequence[Text], sentence: int) -> list[RenderableType]:
    first = Text("  ").join(cell for cell in row[: max(1, sentence)] if cell)
    rest = [cell for cell in row[max(1, sentence) :] if cell]
    return [first, *(Padding(cell, (0, 0, 0, INDENT)) for cell in rest)]


def hanging(line: str, style: str = "") -> RenderableType:
    """A line that wraps under itself, behind a dash."""
    table = Table.grid()
    table.add_row("- ", Text(line, style=style, overflow="fold"))
    return table
