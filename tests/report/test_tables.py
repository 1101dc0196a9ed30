from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from driftcli.report.console import plain
from driftcli.report.tables import listed

HEADS = ("REPLY TOKENS", "replies", "acceptance length", "kept of the draft tokens that the first tokens of the same replies have accepted")
ROW = ("64-127", "5, 35 ended before", "4.40 (too few prompts for an interval)", "112%")


def shown(heads: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    return plain(Group(*listed(heads, [[Text(cell) for cell in row]], len(row) - 1, width))).splitlines()


def test_a_table_too_wide_for_columns_keeps_its_heads_stacked_as_its_rows_are() -> None:
    assert shown(HEADS, ROW, 60) == [
        "REPLY TOKENS  replies  acceptance length",
        f"  {HEADS[3]}",
        "64-127  5, 35 ended before  4.40 (too few prompts for an interval)",
        "  112%",
    ]


def test_one_that_fits_is_in_columns_under_its_heads() -> None:
    assert shown(("tokens", "kept"), ("0-63", "97%"), 60) == ["tokens  kept", "0-63    97%"]
