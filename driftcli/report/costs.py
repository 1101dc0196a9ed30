"""Timed costs on a terminal: milliseconds of a round by draft length, and from which acceptance length on it pays."""

from __future__ import annotations

from math import isfinite

from rich.console import Group, RenderableType
from rich.text import Text

from driftcli.printable import printable
from driftcli.report.speeds import whose
from driftcli.report.tables import Row, by_depth, hanging
from driftcli.statistics.costs import BatchCosts, Costs, RoundCosts, break_even_length

WIDTH = 100  # characters of a table by draft length


def render(costs: Costs, path: str) -> RenderableType:
    """A table for each batch size, where the times come from, and what takes them."""
    tables = [line for one in costs.by_batch for line in (*_table(one), Text())]
    told = [
        f"{costs.source}, after {costs.context} tokens of context",
        *whose(costs),
        *(f"batch {one.batch_size}: no speed would be told: {one.doubt}; time again" for one in costs.by_batch if one.doubt),
        f"written to {path}; driftcli diagnose --costs {path} tells speeds by them",
    ]
    return Group(*tables, *(hanging(printable(line)) for line in told))


def _table(costs: BatchCosts) -> list[RenderableType]:
    lengths = range(1, costs.deepest + 1)
    plain = f"plain decoding takes {1000 * costs.plain:.3g} ms a step{_spread(costs, 0)}"
    rows = [
        Row("a round", [f"{1000 * costs.round_seconds(one):.3g}" for one in lengths], "ms"),
        *([Row("  spread", [_spread(costs, one, short=True) for one in lengths], "half of the middle half")] if _timed(costs) else []),
        Row("break-even", [_break_even(costs, one) for one in lengths], "acceptance length"),
    ]
    return [Text(f"BATCH {costs.batch_size}: {plain}", style="bold"), *by_depth("DRAFT LENGTH", rows, WIDTH)]


def _timed(costs: BatchCosts) -> bool:
    return isinstance(costs, RoundCosts) and costs.turns is not None


def _spread(costs: BatchCosts, drafts: int, *, short: bool = False) -> str:
    """How far apart the turns were of a draft length that was timed itself."""
    if not isinstance(costs, RoundCosts) or costs.turns is None or drafts not in costs.turns.lengths:
        return "-" if short else ""
    apart = costs.turns.spread[costs.turns.lengths.index(drafts)]
    return f"{apart:.0%}" if short else f" (half of the middle half of {len(costs.turns)} repetitions: {apart:.0%})"


def _break_even(costs: BatchCosts, drafts: int) -> str:
    length = break_even_length(costs, drafts)
    return f"{length:.2f}" if isfinite(length) and length <= drafts + 1 else "never"
