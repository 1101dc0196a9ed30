from __future__ import annotations

import pyarrow as pa
import pytest

from driftcli.errors import UsageError
from driftcli.inspection.where import admitting

ROWS = pa.table(
    {
        "depth": pa.array([1, 2, 3, None], pa.int8()),
        "feed": ["free", "forced", "it's", "forced"],
        "match": [True, False, None, True],
        "rms": pa.array([-1.5, 0.5, 2.5, 0.5], pa.float32()),
        "ids": [[1], [2], [3], [4]],
    }
)


def admitted(text: str) -> list[int]:
    numbered = ROWS.append_column("row", pa.array(range(4)))
    return numbered.filter(admitting(text, ROWS.schema))["row"].to_pylist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("depth == 2", [1]), ("2 <= depth", [1, 2]), ("1 < depth <= 3", [1, 2]), ("depth != 2", [0, 2]), ("depth is None", [3]),
        ("depth is not None and not match", [1]), ("match", [0, 3]), ("match == False", [1]), ("rms < -1", [0]), ("rms > -1.5", [1, 2, 3]),
        ("feed in ('free', \"it's\")", [0, 2]), ("feed not in ['forced']", [0, 2]), ("feed == 'forced' or depth == 1", [0, 1, 3]),
        ("not (feed == 'forced' and rms == 0.5)", [0, 2]), ("depth > rms", [0, 1, 2]), ("3 > depth", [0, 1]),
    ],
)  # fmt: skip
def test_a_filter_admits_the_rows_that_it_says(text: str, rows: list[int]) -> None:
    assert admitted(text) == rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("depth = 2", "write == for equality"), ("", "cannot be read"), ("dept == 2", "did you mean depth"), ("depth", "is no comparison"),
        ("feed == 2", "takes a word in quotes"), ("depth == 'a'", "takes a number"), ("match == 1", "takes a truth"), ("depth == True", "takes a number"),
        ("ids == 1", "use --sql"), ("1 == 1", "compares no column"), ("depth == 9e99", "is too large"), ("(" * 300 + "depth", "cannot be read"),
        ("depth == 1 " * 200, "expected at most"), ("feed == 'a\0'", "cannot be read"), ("__import__('os').system('id')", "is no comparison"),
        ("feed == __import__('os')", "takes a word"), ("(lambda: 1)() == depth", "takes a number"), ("feed == f'{1}'", "takes a word"), ("x.y == 1", "compares no column"),
    ],
)  # fmt: skip
def test_anything_but_comparisons_of_columns_is_refused_saying_why(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        admitting(text, ROWS.schema)
