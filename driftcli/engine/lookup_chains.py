"""Drafts of a lookup: at every anchor the tokens that followed its last ones where they stood before, read off the text itself.

Nothing of a draft rests on what was drafted before it, so the free chain of an anchor is its forced one; where less is found than a chain
is long, the rest is missing. The control of depth `d` is the lookup anew at the anchor `d - 1` later: what going on with the first find
costs against looking again. No model is run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from driftcli.conditions import DraftSettings
from driftcli.engine.drafted import NOTHING, Drafted, Guesses, Queries
from driftcli.engine.packing import Packing
from driftcli.engine.trajectories import Trajectory
from driftcli.families.lookup.lookup import Lookup
from driftcli.traces.floors import looked_up

CPU = torch.device("cpu")


def draft_lookups(
    drafter: Lookup, texts: Sequence[Trajectory], settings: DraftSettings, horizon: int, *, free: bool, to_end: bool = False
) -> Drafted:
    """Every anchor's drafts; as `draft_together`, without a distribution, attention or a state."""
    depth = settings.depth
    assert settings == DraftSettings(depth) and depth <= horizon
    every, anchors = (Packing(tuple(text.n_anchors(ahead) for text in texts), CPU) for ahead in (1, horizon))
    drafted = torch.cat([_drafted(drafter, text, depth) for text in texts])
    right = torch.cat([_wanted(text, depth) for text in texts]) == drafted
    drafting = torch.from_numpy(every.places < every.spread(anchors.counts))
    chain = [_queries(drafted[drafting, place], right[drafting, place]) for place in range(depth)] if anchors.total else []
    behind = right[~drafting].long().cumprod(dim=1).sum(dim=1) if to_end else None
    return Drafted(every, anchors, _queries(drafted[:, 0], right[:, 0]), chain, chain if free else [], behind)


def _drafted(drafter: Lookup, text: Trajectory, depth: int) -> Tensor:
    """What each anchor drafts, (anchor, depth), `NOTHING` where that is less."""
    count = text.n_anchors(1)
    found = np.full((count, depth), NOTHING, dtype=np.int64)
    for place, draft in enumerate(looked_up(text.text.ids, text.prompt_length, count, depth, (drafter.fewest, drafter.most))):
        found[place, : len(draft)] = draft
    return torch.from_numpy(found)


def _wanted(text: Trajectory, depth: int) -> Tensor:
    """The text's tokens that each anchor's draft is held against, (anchor, depth); behind the end none that could be drafted."""
    ids = torch.tensor([*text.text.ids[text.prompt_length + 1 :], *[NOTHING - 1] * (depth - 1)])
    return ids.unfold(0, depth, 1)


def _queries(drafted: Tensor, right: Tensor) -> Queries:
    return Queries(Guesses(drafted, None, right.float(), None), None)
