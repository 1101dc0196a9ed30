"""The one place where the tool asks for the day: what a policy accepts ends with one."""

from __future__ import annotations

from datetime import UTC, date, datetime


def today() -> date:
    """The day in UTC, the same for all who share a policy."""
    return datetime.now(UTC).date()
