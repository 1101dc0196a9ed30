"""Drafters that are no checkpoint: named in words, made of the text or of the target itself."""

from __future__ import annotations

from driftcli.errors import UsageError
from driftcli.families.early_exit.early_exit import EarlyExit, exit_named
from driftcli.families.lookup.lookup import Lookup, lookup_named


def without_files(name: str, reading: str | None = None) -> Lookup | EarlyExit | None:
    """The drafter without files that a name means, None for any other; UsageError for one that there is not, and for a reading of it."""
    found = lookup_named(name) or exit_named(name)
    if found is not None and reading is not None:
        raise UsageError(f"--reading {reading}: {found.alike}, which every system does alike; leave it out")
    return found
