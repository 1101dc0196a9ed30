"""What a run says of the target's captured streams, summed a prompt."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from driftcli.domain import Absent, Estimate
from driftcli.statistics.intervals import Bootstrap
from driftcli.statistics.walks import Floats
from driftcli.traces.parquet import holding
from driftcli.traces.sums import of_units, places, read_table
from driftcli.traces.units import Units


def stream_sums(path: Path, condition: str, units: Units) -> dict[str, dict[str, Floats]]:
    """For each captured stream in order, and the fused input, over its rows: how many, RMS and the RMS of what it adds; (unit,) each."""
    table = of_units(read_table(path / "streams", ["prompt", "stream", "place", "rows", "rms", "added_rms"], condition), units)
    found: dict[str, dict[str, Floats]] = {}
    for place in sorted(set(table["place"].to_pylist())):
        rows = holding(table, {"place": [place]})
        index = units.unit[places(rows["prompt"], units.prompts)]
        counts = rows["rows"].to_numpy().astype(np.float64)
        sums = {name: np.bincount(index, counts * rows[name].to_numpy()).astype(np.float64) for name in ("rms", "added_rms")}
        found[rows["stream"][0].as_py()] = {"rows": np.bincount(index, counts, units.count).astype(np.float64), **sums}
    return found


def stream_numbers(sums: dict[str, dict[str, Floats]], draws: Bootstrap) -> dict[str, tuple[Estimate | Absent, Estimate | Absent]]:
    """Of each stream its RMS, and the RMS of what it adds to the fused input."""
    found: dict[str, tuple[Estimate | Absent, Estimate | Absent]] = {}
    for stream, own in sums.items():
        both = [draws.estimate(own, lambda s, name=name: s[name] / s["rows"]) for name in ("rms", "added_rms")]  # type: ignore[misc]
        found[stream] = (both[0], both[1])
    return found
