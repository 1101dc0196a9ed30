"""Drafts of a lookup: at every anchor the tokens that followed its last ones where they stood before, read off the text itself.

Nothing of a draft rests on what was drafted before it, so the free chain of an anchor is its forced one; where less is found than a chain
is long, the rest is missing. The control of depth `d` is the lookup anew at the anchor `d - 1` later: what going on with the first find
costs against looking again. No model is run.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from driftcli.conditions import DraftSettings
from driftcli.engine.drafted import NOTHING, Drafted, Guesses, Queries, kept_inside
from driftcli.engine.packing import Packing
from driftcli.engine.trajectories import Trajectory
from driftcli.families.lookup.lookup import Lookup
from driftcli.traces.floors import looked_up

CPU = torch.device("cpu")


def draft_lookups(
    drafter: Lookup, trajectory: Trajectory, settings: DraftSettings, horizon: int, *, free: bool, to_end: bool = False
) -> Drafted:
    """Every anchor's drafts; as `draft_chains`, without a distribution, attention or a state."""
    ids, first, depth = trajectory.text.ids, trajectory.prompt_length, settings.depth
    count, n_anchors = trajectory.n_anchors(1), trajectory.n_anchors(horizon)
    assert settings == DraftSettings(depth) and depth <= horizon
    drafted = _drafted(looked_up(ids, first, count, depth, (drafter.fewest, drafter.most)), count, depth)
    text = torch.tensor([*ids, *[NOTHING] * depth])  # nothing that is drafted is right behind the end
    chain = [_queries(drafted[:n_anchors, place], text[first + place + 1 :]) for place in range(depth)] if n_anchors else []
    anchors = torch.arange(first, first + count)
    behind = kept_inside(drafted, text, anchors, len(ids) - 1 - anchors)[n_anchors:] if to_end else None
    every, some = Packing((count,), CPU), Packing((n_anchors,), CPU)
    return Drafted(every, some, _queries(drafted[:, 0], text[first + 1 :]), chain, chain if free else [], behind)


def _drafted(drafts: list[list[int]], count: int, depth: int) -> Tensor:
    """(anchor, depth), `NOTHING` where a draft is shorter."""
    found = np.full((count, depth), NOTHING, dtype=np.int64)
    for place, draft in enumerate(drafts):
        found[place, : len(draft)] = draft
    return torch.from_numpy(found)


def _queries(drafted: Tensor, text: Tensor) -> Queries:
    """text: the tokens wanted, and whatever follows them."""
    right = (drafted == text[: len(drafted)]) & (drafted != NOTHING)
    return Queries(Guesses(drafted, None, right.float(), None), None)
