"""Rows of any columns on a terminal: as many columns side by side as fit, the others in further blocks below, the first column in each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from driftcli.printable import printable

GAP, LONGEST = 2, 40  # blanks between columns, and characters of a cell that are shown where there is no room for more (chosen by us)
DIGITS = 4  # significant, of a number (chosen by us)


@dataclass(frozen=True)
class Grid:
    """Heads and rows of plain values, laid out for the width that there is. styles: of the cells by row, plain where there are none."""

    heads: Sequence[str]
    rows: Sequence[Sequence[object]]
    styles: Sequence[Sequence[str]] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.lines(options.max_width)

    def lines(self, width: int) -> Iterator[Text]:
        """The lines, none of them wider."""
        cells = [[shown(head), *(shown(row[place]) for row in self.rows)] for place, head in enumerate(self.heads)]
        numeric = [all(row[place] is None or isinstance(row[place], int | float) for row in self.rows) for place in range(len(self.heads))]
        widths = _widths([max(map(cell_len, column)) for column in cells], width)
        for number, places in enumerate(_blocks(widths, width)):
            yield from [Text()] if number else []
            for line in range(len(self.rows) + 1):
                yield self._line(line, places, cells, widths, numeric, width)

    def _line(
        self, line: int, places: Sequence[int], cells: Sequence[Sequence[str]], widths: Sequence[int], numeric: Sequence[bool], width: int
    ) -> Text:
        parts = []
        for place in places:
            size = min(widths[place], width)
            text = _cut(cells[place][line], size)
            blank = " " * (size - cell_len(text))
            style = "bold" if line == 0 else self.styles[line - 1][place] if self.styles else ""
            parts.append(Text(blank + text if numeric[place] else text + blank, style=style))
        return Text(" " * GAP).join(parts)


def _widths(natural: Sequence[int], width: int) -> list[int]:
    """Cells that columns are given: what they need as far as all fit side by side, else so that any two fit."""
    if len(natural) == 1:
        return [min(natural[0], width)]
    first = min(natural[0], LONGEST, width // 2)
    given = [first, *(min(one, LONGEST, width - first - GAP) for one in natural[1:])]
    room = width - sum(given) - GAP * (len(given) - 1)
    for place, one in enumerate(natural):
        more = max(0, min(one - given[place], room))
        given[place] += more
        room -= more
    return given


def _blocks(widths: Sequence[int], width: int) -> Iterator[list[int]]:
    """Places of the columns that stand side by side, the first in every block."""
    block, used = [0], widths[0]
    for place in range(1, len(widths)):
        if used + GAP + widths[place] > width and len(block) > 1:
            yield block
            block, used = [0], widths[0]
        block.append(place)
        used += GAP + widths[place]
    yield block


def _cut(text: str, size: int) -> str:
    """A text of at most so many cells, with a mark where it is longer."""
    return text if cell_len(text) <= size else set_cell_size(text, max(size - 3, 0)).rstrip() + "..."[:size]


def shown(value: object) -> str:
    """A value as a cell: numbers with four significant digits, bytes as text, nothing for null, all on one printable line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    if isinstance(value, bytes):
        return printable(value.decode(errors="backslashreplace"))
    if isinstance(value, list | tuple):
        some = ", ".join(map(shown, value[:LONGEST]))
        return f"[{some}{', ...' if len(value) > LONGEST else ''}]"
    return printable(str(value))
