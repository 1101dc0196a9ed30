"""What changes against a twin, made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from driftcli.statistics.shift import CAUSES, STAGES, Shift
from driftcli.testing.heads import ANCHORS, HAIR

ROUNDS = 20  # of every stage's walk, a prompt


def shifted(
    twin: float = 60,
    streams: float | None = None,
    tokens: float | None = None,
    here: float | Sequence[float] | None = None,
    *,
    drafted: Sequence[float] = (0, 0),
    wanted: Sequence[float] = (0, 0),
    lost: Mapping[str, Sequence[float]] | None = None,
    gained: Mapping[str, Sequence[float]] | None = None,
    parted: float = 0.0,
    common: float = 0.0,
    prompts: int = 10,
    same: bool = False,
    other_wiring: str = "",
) -> Shift:
    """Drafts kept in 20 rounds of each stage, as many as before it unless said, several dealt over prompts; guesses as counts by depth out
    of 100 anchors a prompt; share of the replies that part, one a prompt, and tokens that those have in common.
    """
    kept: dict[str, float | Sequence[float]] = {"twin": twin}
    for stage, given, before in (("streams", streams, "twin"), ("tokens", tokens, "streams"), ("here", here, "tokens")):
        kept[stage] = kept[before] if given is None else given
    by_depth = {"drafted": drafted, "wanted": wanted}
    by_depth |= {f"lost_{cause}": (lost or {}).get(cause, (0, 0)) for cause in CAUSES}
    by_depth |= {f"gained_{cause}": (gained or {}).get(cause, (0, 0)) for cause in CAUSES}
    apart = HAIR * (np.arange(prompts) % 7)
    sums = {
        "anchors": np.full(prompts, float(ANCHORS)),
        "replies": np.ones(prompts),
        "parted": np.full(prompts, parted),
        "common": np.full(prompts, parted * common),
        **{name: np.tile(np.asarray(values, dtype=float), (prompts, 1)) for name, values in by_depth.items()},
        **{f"{stage}_rounds": np.full(prompts, float(ROUNDS)) for stage in STAGES},
        **{
            f"{s}_kept": np.resize(np.atleast_1d(np.asarray(kept[s], dtype=float)), prompts) * (1 - n * apart)
            for n, s in enumerate(STAGES, 1)
        },
    }
    return Shift(sums, "the float one", "the quantised one", same, other_wiring)
