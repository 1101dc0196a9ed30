"""Times as they are asked for and told: 90s, 20m, 1h30m."""

from __future__ import annotations

import re

from driftcli.errors import UsageError

UNITS = (3600, 60, 1)
DURATION = re.compile(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")
LONGEST = 365 * 24 * 3600  # seconds (chosen by us)


def duration(asked: str) -> int:
    """Seconds of a time such as 90s, 20m or 1h30m; UsageError for anything else."""
    found = DURATION.fullmatch(asked.strip().lower())
    total = sum(int(number) * unit for number, unit in zip(found.groups("0"), UNITS, strict=True)) if found else 0
    if not 0 < total <= LONGEST:
        raise UsageError(f"--budget {asked}: no time that a run may take, expected hours, minutes and seconds, as 90s, 20m or 1h30m")
    return total


def told(seconds: int) -> str:
    """A time in the words in which it is asked for."""
    hours, rest = divmod(seconds, 3600)
    parts = ((hours, "h"), (rest // 60, "m"), (rest % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"
