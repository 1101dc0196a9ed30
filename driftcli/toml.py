"""A file of settings as TOML, of a size that a person writes; what to say of a wrong one is for whoever asks."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

LARGEST = 1 << 20  # bytes (chosen by us)


def read_toml(path: Path) -> dict[str, Any] | None:
    """The content of a file, None for one that is larger than `LARGEST`; raises OSError, ValueError or RecursionError for what is none."""
    with path.open("rb") as file:
        held = file.read(LARGEST + 1)
    return tomllib.loads(held.decode("utf-8")) if len(held) <= LARGEST else None
