"""Attention head by head: the reference's `heads` table, averaged over anchors, chain against control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftcli.domain import SHARES, Share
from driftcli.report.html.charts import Heat
from driftcli.traces.reader import Run
from driftcli.traces.sums import cells, read_table

MOST = 64  # heads that are drawn; of more those whose attention moves most (chosen by us)
KEYS = ("feed", "depth", "layer", "head")
Cube = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Heads:
    """The grid of heads; note: what its numbers are and what is left out, or why there is no grid."""

    heat: Heat | None
    note: str


def by_head(run: Run) -> Heads:
    """The change of every head's shares along the chain against the control, in points; plain shares where there is no control."""
    if not cells(run.path / "heads", run.reference):
        return Heads(None, "not drawn: this run holds no table of heads")
    means = _means(run)
    forced = {key[1:]: values for key, values in means.items() if key[0] == "forced"}
    if not forced:
        return Heads(None, "not drawn: this run's table of heads holds no row")
    depths, heads = sorted({key[0] for key in forced}), sorted({key[1:] for key in forced})
    control = {key[1:]: values for key, values in means.items() if key[0] == "fresh"}
    nothing = np.full(len(SHARES), np.nan)
    own = np.array([[forced.get((depth, *head), nothing) for depth in depths] for head in heads])
    if run.pair.attention_controlled:
        own = own - np.array([[control.get((depth, *head), nothing) for depth in depths] for head in heads])
    kept = _most_moved(own)
    return Heads(_heat(run, own[kept], [heads[place] for place in kept], depths), _note(len(kept), len(heads)))


def _note(kept: int, heads: int) -> str:
    return f"the {kept} of {heads} heads whose attention moves most" if kept < heads else f"all {heads} heads of the drafter"


def _most_moved(change: Cube) -> list[int]:
    """Places of the heads that are drawn, in their order; change: (head, depth, share)."""
    moved = np.abs(np.nan_to_num(change)).sum(axis=(1, 2))
    return sorted(np.argsort(-moved, kind="stable")[:MOST].tolist())


def _heat(run: Run, change: Cube, heads: list[tuple[int, int]], depths: list[int]) -> Heat:
    layers = {layer for layer, _ in heads}
    names = [f"head {head}" if len(layers) == 1 else f"layer {layer}, head {head}" for layer, head in heads]
    shown: list[Share] = [name for name in SHARES if name != "sink" or run.sink_texts[0]]
    grids: dict[str, Sequence[Sequence[float | None]]] = {
        name: [[None if np.isnan(one) else float(one) for one in row] for row in change[:, :, SHARES.index(name)]] for name in shown
    }
    controlled = run.pair.attention_controlled
    what = "change against the control, in percentage points" if controlled else "share of attention"
    return Heat("heads", f"Attention by head and depth: {what}", names, list(map(str, depths)), grids, "points" if controlled else "share")


def _means(run: Run) -> dict[tuple[str, int, int, int], Cube]:
    """Mean shares of every feed, depth, layer and head over the anchors of all prompts, (share,); a text without a sink has 0 there."""
    shares = [f"share_{name}" for name in SHARES]
    table = read_table(run.path / "heads", [*KEYS, "anchors", *shares], run.reference)
    weights = pc.cast(table["anchors"], pa.float64())
    weighted = {name: pc.multiply(pc.fill_null(pc.cast(table[name], pa.float64()), 0.0), weights) for name in shares}
    keys = {name: pc.cast(table[name], pa.string()) if name == "feed" else table[name] for name in KEYS}
    summed = (
        pa.table({**keys, **weighted, "anchors": weights}).group_by(list(KEYS)).aggregate([(name, "sum") for name in (*shares, "anchors")])
    )
    totals = np.stack([summed[f"{name}_sum"].to_numpy() for name in shares], axis=1)
    means = totals / np.maximum(summed["anchors_sum"].to_numpy(), 1)[:, None]
    keyed = zip(*(summed[name].to_pylist() for name in KEYS), strict=True)
    return dict(zip(keyed, means, strict=True))
