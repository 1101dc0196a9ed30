from __future__ import annotations

import pytest

from driftcli.inspection.grid import Grid, shown

ROWS = [(1, "a" * 50, 0.123456, None, True), (20, "中文" * 30, 2.0, "\x1b[31mred\nline", False)]
HEADS = ("depth", "text", "number", "hostile", "truth")


@pytest.mark.parametrize("width", [20, 60, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal_and_every_column_stands_in_some_block(width: int) -> None:
    lines = list(Grid(HEADS, ROWS).lines(width))
    assert max(line.cell_len for line in lines) <= width
    heads = [word for line in lines for word in line.plain.split() if word in HEADS]
    assert set(heads) == set(HEADS)
    assert heads.count("depth") == sum(line.plain.startswith("depth") for line in lines)  # the first column stands in every block
    assert not any("\x1b" in line.plain for line in lines)


def test_numbers_stand_to_the_right_and_words_to_the_left() -> None:
    assert [line.plain for line in Grid(("n", "w"), [(1, "aa"), (10, "b")]).lines(80)] == [" n  w ", " 1  aa", "10  b "]


def test_values_are_shown_short_and_printable() -> None:
    assert [shown(one) for one in (None, True, 0.123456, b"\xffa\n", [1, 2], list(range(60)))] == [
        "", "true", "0.1235", "\\xffa\\n", "[1, 2]", f"[{', '.join(map(str, range(40)))}, ...]",
    ]  # fmt: skip
