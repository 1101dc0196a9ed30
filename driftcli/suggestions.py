"""What somebody may have meant who wrote a name that is none."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def meant(asked: str, known: Iterable[str]) -> str:
    """`did you mean X? ` where a known name is close to what was asked, else nothing; to stand in front of the list of known names."""
    by_letters = {name.lower(): name for name in known}
    close = get_close_matches(asked.lower(), by_letters, n=1)
    return f"did you mean {by_letters[close[0]]}? " if close else ""
