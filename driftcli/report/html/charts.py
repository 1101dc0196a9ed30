"""What a chart holds, as plain values: the page draws it and, from the same values, writes the table beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import floor, log10

from driftcli.report.html.numbers import Form, Number
from driftcli.traces.writer import Plain

DIGITS = 4  # significant ones of what is drawn, which no screen shows more of (chosen by us)


@dataclass(frozen=True, slots=True)
class Series:
    """A line: its name, its numbers one a tick, and which colour, dash and shape it has. remark: what stands beside it in the table."""

    name: str
    numbers: Sequence[Number]
    look: int
    remark: str = ""

    @property
    def absent(self) -> str:
        """Why nothing of it can be drawn, empty where something can."""
        return (
            ""
            if any(one.value is not None for one in self.numbers)
            else next((one.reason for one in self.numbers if one.reason), "no number")
        )


@dataclass(frozen=True, slots=True)
class Lines:
    """Numbers over ordered ticks, with interval bands. rule: a value that is worth a line. top: the least end of the upward axis."""

    id: str
    title: str
    across: str
    upward: str
    form: Form
    ticks: Sequence[str]
    series: Sequence[Series]
    rule: float | None = None
    low: float | None = None
    top: float | None = None

    @property
    def drawn(self) -> Sequence[Series]:
        """The series that have a number."""
        return [one for one in self.series if not one.absent]

    @property
    def absent(self) -> Sequence[Series]:
        """The series that have none."""
        return [one for one in self.series if one.absent]

    @property
    def gaps(self) -> dict[str, str]:
        """Why single numbers of drawn series lack, or have no interval, by series and tick."""
        return {
            f"{one.name}, {self.across} {tick}": number.reason
            for one in self.drawn
            for tick, number in zip(self.ticks, one.numbers, strict=True)
            if number.reason and (number.value is None or number.low is None)
        }

    def plain(self) -> dict[str, Plain]:
        """What the page's script draws from."""
        return {
            "kind": "lines",
            **{"across": self.across, "upward": self.upward, "form": self.form, "rule": self.rule, "low": self.low, "top": self.top},
            "ticks": list(self.ticks),
            "series": [{"name": one.name, "look": one.look, "points": [_point(number) for number in one.numbers]} for one in self.drawn],
        }


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of a forest plot: its name, its number, in which group it stands, how it looks, and what is said beside it."""

    name: str
    number: Number
    group: str = ""
    look: int = 0
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Forest:
    """Numbers with intervals, one a row, around a value that means no change."""

    id: str
    title: str
    along: str
    form: Form
    bars: Sequence[Bar]
    rule: float = 1.0
    heads: tuple[str, str] = ("condition", "")  # of the table: what a row is, and what stands beside it

    @property
    def drawn(self) -> Sequence[Bar]:
        """The rows that have a number."""
        return [bar for bar in self.bars if bar.number.value is not None]

    @property
    def absent(self) -> Sequence[Bar]:
        """The rows that have none."""
        return [bar for bar in self.bars if bar.number.value is None]

    def plain(self) -> dict[str, Plain]:
        """What the page's script draws from."""
        rows: list[Plain] = [{"name": bar.name, "group": bar.group, "look": bar.look, "point": _point(bar.number)} for bar in self.drawn]
        return {"kind": "forest", "along": self.along, "form": self.form, "rule": self.rule, "rows": rows}


@dataclass(frozen=True, slots=True)
class Heat:
    """A grid of numbers, rows by depth, for each of several choices. cells: by choice (row, depth)."""

    id: str
    title: str
    rows: Sequence[str]
    ticks: Sequence[str]
    cells: dict[str, Sequence[Sequence[float | None]]] = field(default_factory=dict)
    form: Form = "points"

    def plain(self) -> dict[str, Plain]:
        """What the page's script draws from."""
        cells: dict[str, Plain] = {
            name: [[None if value is None else rounded(value) for value in row] for row in rows] for name, rows in self.cells.items()
        }
        return {"kind": "heat", "rows": list(self.rows), "ticks": list(self.ticks), "form": self.form, "cells": cells}


Chart = Lines | Forest | Heat


def rounded(value: float) -> float:
    """The value to so many significant digits as are drawn."""
    return 0.0 if value == 0 else round(value, DIGITS - 1 - floor(log10(abs(value))))


def _point(number: Number) -> list[Plain]:
    """Value, low and high."""
    return [None if one is None else rounded(one) for one in (number.value, number.low, number.high)]
