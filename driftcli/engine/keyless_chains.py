"""Chains of an assistant: all anchors of some texts at once, depth by depth, on keys that are the target's and stay the same.

What it sees of a text is the same at every depth: the target's last state in front of the anchor, and the keys that the target keeps up to
there. So the fresh queries of all anchors are the first step of every chain, and the control of a chain's query is the first step from the
anchor `d - 1` later, which sees the text between them as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from driftcli.conditions import DraftSettings
from driftcli.engine.anchored import Anchored
from driftcli.engine.attention import Masses, Shared, Sight, attend, tail_length
from driftcli.engine.chains import pinned
from driftcli.engine.drafted import Apart, Drafted, Guesses, Queries, packed_streams, row_labels, sinks_biased, window_kept
from driftcli.engine.trajectories import Trajectory
from driftcli.families.assistant.drafter import Assistant
from driftcli.families.self_feeding import Finished, RopeTables


@dataclass(frozen=True, slots=True)
class KeylessDrafted(Drafted):
    """What such chains gave: a chain's queries see no key beyond their anchor's row, and of their controls those of the text do."""

    def ahead(self, queries: Queries, depth: int, *, fresh: bool) -> int | None:
        """A control's last keys are of the tokens in front of its own anchor, of which the anchor's own is verified."""
        return max(0, depth - 2) if fresh else 0


@dataclass(frozen=True)
class _Chains:
    """The drafting of some texts under one setting. shared: the target's keys by kind of layer; kept, bias: rows that a window does not
    hide, and what is added to the scores of rows in nats, (text, row) each.
    """

    drafter: Assistant
    settings: DraftSettings
    on: Anchored
    shared: dict[str, Shared]
    kept: Tensor | None
    bias: Tensor | None

    @classmethod
    def of(cls, drafter: Assistant, settings: DraftSettings, on: Anchored, apart: Sequence[Apart]) -> _Chains:
        """With the target's keys of all rows."""
        labels, shared = row_labels(on.texts, on.rows, 0), {}
        for kind, keys in drafter.keys.items():
            stream = packed_streams(on.texts, on.rows.counts, (keys.boundary,))[keys.boundary].to(drafter.head)
            shared[kind] = Shared.of(on.rows, *keys.of(stream, on.rows.counts), labels)
        return cls(drafter, settings, on, shared, window_kept(on.rows, apart), sinks_biased(on.rows, apart, settings.sink_bias))

    @cached_property
    def tables(self) -> dict[str, RopeTables]:
        """How queries turn at every position of the texts."""
        return self.drafter.tables(max(self.on.rows.counts) + 2)

    def chain(self, free: bool) -> list[Queries]:
        """The queries of every anchor, depth by depth, on the text's tokens or on their own guesses."""
        found = list[Queries]()
        state, tokens = self.on.states_at(0), self.on.tokens(0)
        for depth in range(1, self.settings.depth + 1):
            step = "fresh 1" if depth == 1 else f"{'free' if free else 'forced'} {depth}"
            done, masses = self._step(self.on.noisy(self.drafter.embed(tokens), state, self.settings.noise, step), depth)
            guesses = self._guess(done, self.on.tokens(depth))
            own = pinned(done.state, found[0].state) if self.settings.pinned and found else done.state
            found.append(Queries(guesses, masses, own))
            given = self.on.handed_on(self.settings, depth + 1)
            state, tokens = own if given is None else given, guesses.drafted if free else self.on.tokens(depth)
        return found

    def _step(self, inputs: tuple[Tensor, Tensor], depth: int) -> tuple[Finished, Masses]:
        """One depth of all chains, on (embeddings, states)."""
        drafter, on, parts = self.drafter, self.on, list[Masses]()
        flow, stream = drafter.begin(*inputs), inputs[0]
        last = on.every.sent(on.positions - 1)
        turned = last + (drafter.place == "the anchor's")
        for number, (kind, layer) in enumerate(zip(drafter.kinds, drafter.layers, strict=True)):
            flow = layer.enter(stream) if number else flow
            query = layer.project(flow.inputs, turned, self.tables[kind]).query
            window = layer.window if self.settings.window is None else self.settings.window
            sight = replace(Sight.of(last, on.rows.counts, 0, window, self.kept), row_bias=self.bias if depth > 1 else None)
            scale = layer.scale / (1 + self.settings.warming * (depth - 1))
            tail = tail_length(self.settings.depth)
            attended, masses = attend(query, on.every, self.shared[kind], None, sight, tail, scale, layer.sinks)
            parts.append(masses)
            stream = layer.leave(flow.residual, attended)
        return drafter.finish(stream), Masses.joined(parts, dim=0)

    def _guess(self, done: Finished, wanted: Tensor) -> Guesses:
        size, temperature = len(self.drafter.head), self.on.texts[0].temperature
        return Guesses.by_head(self.drafter.logits, done.output, wanted, size, temperature)


@torch.inference_mode()
def draft_keyless(
    drafter: Assistant,
    texts: Sequence[Trajectory],
    settings: DraftSettings,
    horizon: int,
    *,
    free: bool,
    to_end: bool = False,
    apart: Sequence[Apart] = (),
) -> Drafted:
    """Fresh, forced and, if asked, free chains of every anchor whose guesses up to `horizon` lie inside its text, as `draft_together`."""
    drafter = drafter.wired(settings.wiring)
    on = Anchored.of(texts, lambda counts: drafter.fuse(packed_streams(texts, counts, drafter.boundaries)), settings.depth)
    run = _Chains.of(drafter, settings, on, apart or [Apart()] * len(texts))
    return on.drafted(KeylessDrafted, run.chain, horizon, free=free, to_end=to_end)
