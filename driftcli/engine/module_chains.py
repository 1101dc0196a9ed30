"""Chains of a head with one module a depth: the module of depth `d` guesses at every anchor in one pass over all rows.

Row `i` of module `d` holds the token `x[i + d]` with what module `d - 1` gave at row `i`, so a chain adds no rows: its query at depth `d`
stands at the row of its anchor, and only the tokens behind it are newer. On the target's tokens this pass is the forced chain of every
anchor. There is no chain of states to hold a control against: each depth has weights of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from driftcli.conditions import DraftSettings
from driftcli.engine.attention import Shared, Sight, attend, attend_unmeasured, tail_length
from driftcli.engine.drafted import Apart, Drafted, Guesses, Laid, Queries, packed_streams, row_labels, window_kept
from driftcli.engine.packing import Packing, Whole
from driftcli.engine.trajectories import Trajectory
from driftcli.families.mtp.head import Mtp, MtpModules


@torch.inference_mode()
def draft_modules(
    drafter: MtpModules,
    texts: Sequence[Trajectory],
    settings: DraftSettings,
    horizon: int,
    *,
    to_end: bool = False,
    apart: Sequence[Apart] = (),
) -> Drafted:
    """Forced chains of every anchor whose guesses up to `horizon` lie inside its text, as `draft_together` gives them; no free ones."""
    drafter = drafter.wired(settings.wiring)
    counts = tuple(len(text.text.ids) - 2 for text in texts)
    states = drafter.fuse(packed_streams(texts, counts, drafter.boundaries))
    rows = Packing(counts, states.device)
    run = _Modules(texts, settings, rows, Laid.of(texts, settings.depth, rows.device), window_kept(rows, apart))
    found: list[Queries] = []
    for depth, module in enumerate(drafter.modules[: settings.depth], 1):
        queries, states = run.through(module, states, depth)
        found.append(queries)
    every, anchors = run.every, Packing(tuple(text.n_anchors(horizon) for text in texts), rows.device)
    inside = every.places < every.spread(anchors.counts)
    drafted = [queries.guesses.drafted for queries in found]
    behind = run.laid.kept_inside(drafted, every, run.anchors, np.flatnonzero(~inside)) if to_end else None
    first = rows.sent(np.flatnonzero(inside))
    return Drafted(every, anchors, found[0], [queries.pick(first) for queries in found] if anchors.total else [], [], behind)


@dataclass(frozen=True)
class _Modules:
    """The drafting of some texts under one setting; rows: of each; laid: their tokens; kept: rows that a window does not hide."""

    texts: Sequence[Trajectory]
    settings: DraftSettings
    rows: Packing
    laid: Laid
    kept: Tensor | None

    @property
    def starts(self) -> list[int]:
        """The first anchor of each text."""
        return [text.prompt_length for text in self.texts]

    @cached_property
    def every(self) -> Packing:
        """How many anchors `P .. N - 2` each text has."""
        return Packing(tuple(count - start + 1 for count, start in zip(self.rows.counts, self.starts, strict=True)), self.rows.device)

    @cached_property
    def anchors(self) -> Whole:
        """Positions of all anchors of each text. (anchor,)"""
        return self.every.places + self.every.spread(self.starts)

    def through(self, module: Mtp, states: Tensor, depth: int) -> tuple[Queries, Tensor]:
        """One module over all rows: its queries at every anchor `P .. N - 2`, without states, and what it hands on, (row, width)."""
        rows, layer = self.rows, module.layer
        late = rows.places >= rows.spread(self.starts) - 1
        asking, others, places = rows.sent(np.flatnonzero(late)), rows.sent(np.flatnonzero(~late)), rows.sent(rows.places)
        flow = module.begin(module.embed(self.laid.tokens(rows, rows.places + depth), places), states)
        step = layer.project(flow.inputs, torch.arange(rows.total, device=rows.device), module.ropes(rows.counts))
        shared = Shared.of(rows, step.key, step.value, row_labels(self.texts, rows, depth))
        window = layer.window if self.settings.window is None else self.settings.window
        sights = [Sight.of(places[some], rows.counts, 0, window, self.kept) for some in (asking, others)]
        before, asked = Packing(tuple(start - 1 for start in self.starts), rows.device), self.every
        tail = tail_length(self.settings.depth)
        attended, masses = attend(step.query[:, asking], asked, shared, None, sights[0], tail, layer.scale, layer.sinks)
        whole = attended.new_empty(rows.total, attended.shape[1])
        whole[asking] = attended
        whole[others] = attend_unmeasured(step.query[:, others], before, shared, sights[1], layer.scale, layer.sinks)
        done = module.finish(layer.leave(flow.residual, whole))
        wanted = self.laid.tokens(asked, self.anchors + depth)
        guesses = Guesses.by_head(module.logits, done.output[asking], wanted, len(module.head), self.texts[0].temperature)
        return Queries(guesses, masses), done.state
