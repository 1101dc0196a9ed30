"""Rows of a condition summed a reply by how far it has gone, which is all that `driftcli.statistics.positions` sees."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from driftcli.domain import Feed, RunSpec
from driftcli.statistics.positions import Replies, bin_of, no_replies
from driftcli.statistics.walks import Floats
from driftcli.traces.sums import Grid, prompt_side
from driftcli.traces.units import Units

DEEPER = slice(1, None)  # depths of which the state is the drafter's own


def reply_sums(feeds: Mapping[Feed, Grid | None], texts: pa.Table, units: Units, spec: RunSpec) -> Replies:
    """The replies of all texts, those without a chain among them, with the sums of their anchors."""
    forced = feeds["forced"]
    if forced is None or not len(forced.anchor):
        return no_replies(spec.depth)
    number = {name: place for place, name in enumerate(zip(texts["prompt"].to_pylist(), texts["turn"].to_pylist(), strict=True))}
    reply = np.zeros(len(forced.anchor), dtype=int)
    for span in forced.trajectories:
        reply[span] = number[units.prompts[forced.prompt[span.start]], int(forced.turn[span.start])]
    length, start = (texts[name].to_numpy() for name in ("length", "prompt_length"))
    in_bin = bin_of(forced.anchor - start[reply])
    shape = len(texts), int(in_bin.max()) + 1
    sums: dict[str, Floats] = {
        name: np.bincount(reply * shape[1] + in_bin, values, shape[0] * shape[1]).astype(np.float64).reshape(shape)
        for name, values in _counted(forced, feeds["fresh"]).items()
    }
    unit_of = dict(zip(units.prompts, units.unit.tolist(), strict=True))
    unit = np.array([unit_of.get(prompt, 0) for prompt, _ in number])  # one without a chain adds nothing, wherever it stands
    ended = texts["generated"].to_numpy(zero_copy_only=False) & (length - start < spec.max_new_tokens)
    return Replies(sums, unit, ended, spec.depth, spec.seed)


def _counted(forced: Grid, fresh: Grid | None) -> dict[str, Floats]:
    """What is summed of each anchor; (anchor,) each."""
    sides = prompt_side(forced)
    on_walk, ones = forced.on_walk.astype(float), np.ones(len(forced.anchor))
    return {
        "anchors": ones,
        "rounds": on_walk,
        "kept": on_walk * forced.accepted,
        "deep": ones * forced.values["rms"][:, DEEPER].shape[1],
        "own_rms": forced.values["rms"][:, DEEPER].sum(axis=1),
        "control_rms": ones * np.nan if fresh is None else fresh.values["rms"][:, DEEPER].sum(axis=1),
        "prompt_side": sides[:, DEEPER].sum(axis=1),
    }
