"""Chains of a head with one module a depth: the module of depth `d` guesses at every anchor in one pass over all rows.

Row `i` of module `d` holds the token `x[i + d]` with what module `d - 1` gave at row `i`, so a chain adds no rows: its query at depth `d`
stands at the row of its anchor, and only the tokens behind it are newer. On the target's tokens this pass is the forced chain of every
anchor. There is no chain of states to hold a control against: each depth has weights of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from driftcli.conditions import DraftSettings
from driftcli.engine.attention import Keys, Sight, attend, attend_unmeasured, tail_length
from driftcli.engine.chains import Drafted, Guesses, Queries, Rows, kept_inside
from driftcli.engine.trajectories import Trajectory
from driftcli.families.mtp.head import Mtp, MtpModules


@torch.inference_mode()
def draft_modules(
    drafter: MtpModules, trajectory: Trajectory, settings: DraftSettings, horizon: int, *, to_end: bool = False, kept: Sequence[int] = ()
) -> Drafted:
    """Forced chains of every anchor whose guesses up to `horizon` lie inside the trajectory, as `draft_chains` gives them; no free ones."""
    drafter = drafter.wired(settings.wiring)
    rows = len(trajectory.ids) - 2
    states = drafter.fuse({boundary: trajectory.streams[boundary][:rows] for boundary in drafter.boundaries})
    first, n_anchors, n_all = trajectory.prompt_length, trajectory.n_anchors(horizon), trajectory.n_anchors(1)
    run = _Modules(trajectory, settings, first, states.device, Rows.of(kept, (), 0.0, torch.arange(rows, device=states.device)).kept)
    every: list[Queries] = []
    for depth, module in enumerate(drafter.modules[: settings.depth], 1):
        found, states = run.through(module, states, depth)
        every.append(found)
    places = torch.arange(n_all, device=states.device)
    behind = kept_inside(every, trajectory.ids.to(states.device), first)[n_anchors:] if to_end else None
    if not n_anchors:
        return Drafted(0, every[0], [], [], behind)
    return Drafted(n_anchors, every[0], [queries.pick(places[:n_anchors]) for queries in every], [], behind)


@dataclass(frozen=True)
class _Modules:
    """The drafting of one trajectory under one setting; seen: rows that a window does not hide."""

    trajectory: Trajectory
    settings: DraftSettings
    first: int
    device: torch.device
    seen: Tensor | None

    @property
    def ids(self) -> Tensor:
        """The text's tokens, and nothing behind them as deep as chains go."""
        return F.pad(self.trajectory.ids, (0, self.settings.depth)).to(self.device)

    def through(self, module: Mtp, states: Tensor, depth: int) -> tuple[Queries, Tensor]:
        """One module over all rows: its queries at every anchor `P .. N - 2`, without states, and what it hands on, (row, width)."""
        ids, (rows, _), early = self.ids, states.shape, self.first - 1
        index, layer = torch.arange(rows, device=self.device), module.layer
        flow = module.begin(module.embed(ids[depth : depth + rows], index), states)
        step = layer.project(flow.inputs, index, module.rope(rows))
        keys, window = Keys(step.key, step.value), layer.window if self.settings.window is None else self.settings.window
        labels = F.pad(self.trajectory.labels, (0, self.settings.depth), value=int(self.trajectory.labels[-1])).to(self.device)
        measured, tail = Sight.of(index[early:], 0, window, self.seen), tail_length(self.settings.depth)
        asked = step.query[:, early:], keys, None, measured, labels[depth : depth + rows], tail
        attended, masses = attend(*asked, layer.scale, layer.sinks)
        before = Sight.of(index[:early], 0, window, self.seen)
        others = attend_unmeasured(step.query[:, :early], keys, before, layer.scale, layer.sinks)
        done = module.finish(layer.leave(flow.residual, torch.cat([others, attended])))
        probs = (module.logits(done.output[early:]) / self.trajectory.temperature).softmax(-1)
        wanted = ids[self.first + depth : self.first + depth + len(probs)]
        return Queries(Guesses.of(probs, probs.argmax(-1), wanted), masses), done.state
