"""What decoding by a plan comes to along the texts of a run: rounds by how many proposals they sent, and what was kept of them.

A deployed chain feeds on its own tokens, so a rule that ends it looks at the free chain; what is kept follows from the forced one, which is
the same up to the first miss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from driftcli.conditions import Plan, StopMeasure, StopRule
from driftcli.statistics.survival import PRODUCTS, Told
from driftcli.statistics.temperatures import survival
from driftcli.statistics.walks import Floats, Sums, walk
from driftcli.traces.sums import Grid, prompt_side

ANCHOR = ("prompt", "turn", "anchor")
MEASURES: dict[StopMeasure, Callable[[Grid], Floats]] = {
    "confidence": lambda grid: grid.values["draft_prob"],
    "entropy": lambda grid: grid.values["draft_entropy"],
    "state": lambda grid: grid.values["rms"],
    "prompt": prompt_side,
}
OF_CHAIN: Mapping[StopMeasure, Told] = {measure: told for told, measure in PRODUCTS.items()}  # measures of a whole chain so far


def fresh_band(fresh: Grid, measure: StopMeasure, units: np.ndarray, outside: float) -> tuple[float, float]:
    """Between which values a measure of the fresh queries lies, but for a share of `outside` on either side; units: (unit,) counted."""
    values = MEASURES[measure](fresh)[units[fresh.unit]]
    low, high = np.quantile(values[np.isfinite(values)], [outside, 1 - outside])
    return float(low), float(high)


def measured(free: Grid, stop: StopRule) -> Floats:
    """What a rule looks at, of each draft token of the free chains; (anchor, depth)."""
    if stop.measure in OF_CHAIN:
        return survival(free.values[OF_CHAIN[stop.measure]], stop.temperatures)
    return MEASURES[stop.measure](free)


def lacks_for_stop(condition: str, free: Grid | None, stop: StopRule) -> str:
    """What a rule would have to see of a condition's free chains and does not; empty where it sees it."""
    if free is None:
        return f"{condition} drafted no free chains, which a rule that ends them must see"
    if not np.isfinite(measured(free, stop)).any():
        return f"{condition} has no {stop.measure} of its guesses, which the rule looks at"
    return ""


def sent(free: Grid | None, anchors: int, drafts: int, stop: StopRule | None) -> np.ndarray:
    """Proposals that a rule lets the chain of each anchor send to be verified; (anchor,)."""
    if stop is None or free is None:
        return np.full(anchors, drafts)
    measure = measured(free, stop)[:, : drafts - 1]
    outside = np.column_stack([(measure < stop.low) | (measure > stop.high), np.ones(anchors, dtype=bool)])
    first: np.ndarray = outside.argmax(axis=1) + 1
    return first


def plan_sums(forced: Grid, free: Grid | None, plan: Plan) -> Sums:
    """Sums by unit: `rounds_by_sent` (unit, drafts + 1), rounds of the plan's own walk that sent 0 .. drafts proposals; `kept` of them,
    (unit,); `anchors`, (unit,).
    """
    chains = np.minimum(sent(free, len(forced.anchor), plan.drafts, plan.stop), forced.proposed)
    return sent_sums(forced, chains, forced.accepted, plan.drafts)


def sent_sums(grid: Grid, chains: np.ndarray, accepted: np.ndarray, drafts: int) -> Sums:
    """The same of any proposals along a grid's texts. chains: (anchor,) how many, `drafts` at most; accepted: how many would be right."""
    kept = np.minimum(accepted, chains)
    visited = np.zeros(len(kept), dtype=bool)
    for span in grid.trajectories:
        visited[span] = walk(kept[span])
    rounds = (chains[:, None] == np.arange(drafts + 1)) & visited[:, None]
    return {"rounds_by_sent": grid.total(rounds), "kept": grid.total(kept * visited), "anchors": grid.total(np.ones(len(kept)))}


def walked(steps: pa.Table, depth: int) -> dict[tuple[str, int], dict[str, int]]:
    """Rounds and accepted draft tokens of walks, by prompt and turn, from their forced rows of `steps`."""
    right = pc.if_else(steps["match"], depth, pc.subtract(steps["depth"].cast(pa.int64()), 1))  # before the first miss
    kept = steps.append_column("kept", right).group_by(list(ANCHOR)).aggregate([("kept", "min")])
    rows = kept.group_by(["prompt", "turn"]).aggregate([("kept_min", "count"), ("kept_min", "sum")]).to_pylist()
    return {(row["prompt"], row["turn"]): {"rounds": row["kept_min_count"], "accepted": row["kept_min_sum"]} for row in rows}
