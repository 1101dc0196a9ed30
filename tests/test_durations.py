from __future__ import annotations

import pytest

from driftcli.durations import duration, told
from driftcli.errors import UsageError


@pytest.mark.parametrize(("asked", "seconds"), [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("2H", 7200), (" 1h2m3s ", 3723)])
def test_a_time_is_read_by_its_units(asked: str, seconds: int) -> None:
    assert duration(asked) == seconds


@pytest.mark.parametrize("asked", ["", "20", "m", "0s", "-5m", "1.5h", "5 m", "5d", "30m1h", "99999999h", "nan", "\x1b[31m"])
def test_anything_else_is_a_usage_error_in_one_printable_sentence(asked: str) -> None:
    with pytest.raises(UsageError, match="expected hours, minutes and seconds, as 90s, 20m or 1h30m") as error:
        duration(asked)
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize(("seconds", "words"), [(90, "1m30s"), (1200, "20m"), (5400, "1h30m"), (0, "0s")])
def test_a_time_is_told_as_it_would_be_asked(seconds: int, words: str) -> None:
    assert told(seconds) == words
