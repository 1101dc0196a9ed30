"""What runs are called where they stand beside one another: by their drafters, and by their folders where those are not told apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from driftcli.domain import BUNDLED
from driftcli.printable import one_line, printable
from driftcli.traces.reader import Run

LONGEST = 40  # characters of a name (chosen by us)


def names(runs: Sequence[Run]) -> tuple[str, ...]:
    """A name for each run, all different, printable and short."""
    drafters = [Path(run.pair.drafter.name.removeprefix(BUNDLED)).name for run in runs]
    folders = [run.path.resolve().name for run in runs]
    numbered = [f"RUN{place} {name}" for place, name in enumerate(folders)]
    for found in (drafters, folders):
        shown = tuple(printable(one_line(name, LONGEST)) for name in found)
        if len(set(shown)) == len(shown) and all(shown):
            return shown
    return tuple(printable(one_line(name, LONGEST)) for name in numbered)
