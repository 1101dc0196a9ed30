"""Chains of drafters that add no keys of their own: all anchors of some texts at once, depth by depth.

What such a drafter sees of a text is the same at every depth: the target's last state in front of the anchor, and for an assistant the keys
that the target keeps up to there. So the fresh queries of all anchors are the first step of every chain, and the control of a chain's query
is the first step from the anchor `d - 1` later, which sees the text between them as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from driftcli.conditions import DraftSettings
from driftcli.engine.attention import Masses, Shared, Sight, attend, tail_length
from driftcli.engine.chains import noised, pinned
from driftcli.engine.drafted import Apart, Drafted, Guesses, Queries, kept_inside, laid_out, marked, packed_streams, row_labels
from driftcli.engine.packing import Packing, Whole
from driftcli.engine.trajectories import Trajectory
from driftcli.families.assistant.drafter import Assistant
from driftcli.families.self_feeding import Finished
from driftcli.texts.prompts import content_hash


@dataclass(frozen=True, slots=True)
class KeylessDrafted(Drafted):
    """What such chains gave: a chain's queries see no key beyond their anchor's row, and of their controls those of the text do."""

    def ahead(self, queries: Queries, depth: int, *, fresh: bool) -> int | None:
        """A control's last keys are of the tokens in front of its own anchor, of which the anchor's own is verified."""
        return max(0, depth - 2) if fresh else 0


@dataclass(frozen=True)
class _Texts:
    """Some texts as an assistant reads them. every: how many anchors `P .. N - 2` each has; positions: theirs; states: the target's of all
    rows, (row, width); apart: rows that a window does not hide, and rows that a sink's bias is for, (text, row) each.
    """

    texts: Sequence[Trajectory]
    lying: Packing
    ids: Tensor
    rows: Packing
    every: Packing
    positions: Whole
    states: Tensor
    kept: Tensor | None
    bias: Tensor | None

    @classmethod
    def of(cls, drafter: Assistant, texts: Sequence[Trajectory], settings: DraftSettings, apart: Sequence[Apart]) -> _Texts:
        """The texts as a drafter that is wired as it is to be reads them."""
        counts = tuple(len(text.text.ids) - 2 for text in texts)
        states = drafter.fuse(packed_streams(texts, counts, drafter.boundaries))
        rows = Packing(counts, states.device)
        every = Packing(tuple(text.n_anchors(1) for text in texts), states.device)
        positions = every.places + every.spread([text.prompt_length for text in texts])
        kept = marked(rows, [one.kept for one in apart]) if any(one.kept for one in apart) else None
        bias = marked(rows, [one.sinks for one in apart]) * settings.sink_bias if settings.sink_bias else None
        return cls(texts, *laid_out(texts, rows, settings.depth), rows, every, positions, states, kept, bias)

    def tokens(self, ahead: int) -> Tensor:
        """Tokens so far behind every anchor; past a text's end stand some that nobody reads."""
        return self.ids[self.every.sent(self.every.spread(self.lying.offsets[:-1]) + self.positions + ahead)]

    def states_at(self, ahead: int) -> Tensor:
        """The target's states of the rows in front of the anchors so far behind every anchor, or of the text's last row."""
        last = np.asarray(self.rows.counts)[self.every.texts] - 1
        places = np.minimum(self.positions - 1 + ahead, last) + self.every.spread(self.rows.offsets[:-1])
        return self.states[self.every.sent(places)]


@dataclass(frozen=True)
class _Chains:
    """The drafting of some texts under one setting; shared: the target's keys by kind of layer; places: of each query's rotation."""

    drafter: Assistant
    settings: DraftSettings
    on: _Texts
    shared: dict[str, Shared]

    @classmethod
    def of(cls, drafter: Assistant, settings: DraftSettings, on: _Texts) -> _Chains:
        """With the target's keys of all rows."""
        labels = row_labels(on.texts, on.rows, 0)
        shared = {}
        for kind, keys in drafter.keys.items():
            stream = packed_streams(on.texts, on.rows.counts, (keys.boundary,))[keys.boundary].to(drafter.head)
            shared[kind] = Shared.of(on.rows, *keys.of(stream, on.rows.counts), labels)
        return cls(drafter, settings, on, shared)

    def chain(self, *, free: bool) -> list[Queries]:
        """The queries of every anchor, depth by depth, on the text's tokens or on their own guesses."""
        found = list[Queries]()
        state, tokens = self.on.states_at(0), self.on.tokens(0)
        for depth in range(1, self.settings.depth + 1):
            done, masses = self._step(self._noisy(state, tokens, depth, free=free), depth)
            guesses = self._guess(done, self.on.tokens(depth))
            own = pinned(done.state, found[0].state) if self.settings.pinned and found else done.state
            found.append(Queries(guesses, masses, own))
            state, tokens = self._handed_on(own, depth + 1), guesses.drafted if free else self.on.tokens(depth)
        return found

    def _handed_on(self, own: Tensor, depth: int) -> Tensor:
        """The states that the queries of a depth read: the drafter's own, or the target's of where they began or stand."""
        every = self.settings.reanchored
        if self.settings.held:
            return self.on.states_at(0)
        return own if not every or (depth - 1) % every else self.on.states_at(depth - 1)

    def _noisy(self, states: Tensor, tokens: Tensor, depth: int, *, free: bool) -> tuple[Tensor, Tensor]:
        """Embeddings and states, with noise on the path that the setting names, the same for the first step of every chain."""
        embedded, noise = self.drafter.embed(tokens), self.settings.noise
        if noise is None:
            return embedded, states
        step = "fresh 1" if depth == 1 else f"{'free' if free else 'forced'} {depth}"
        drawn = [
            (f"{content_hash(text.prompt)} {text.turn} {step}", count)
            for text, count in zip(self.on.texts, self.on.every.counts, strict=True)
        ]
        return (noised(embedded, noise, drawn), states) if noise.path == "embedding" else (embedded, noised(states, noise, drawn))

    def _step(self, inputs: tuple[Tensor, Tensor], depth: int) -> tuple[Finished, Masses]:
        """One depth of all chains, on (embeddings, states)."""
        drafter, on, parts = self.drafter, self.on, list[Masses]()
        flow, stream = drafter.begin(*inputs), inputs[0]
        last = on.every.sent(on.positions - 1)
        turned = last + (drafter.place == "the anchor's")
        tables = drafter.tables(max(on.rows.counts) + 2)
        for number, (kind, layer) in enumerate(zip(drafter.kinds, drafter.layers, strict=True)):
            flow = layer.enter(stream) if number else flow
            query = layer.project(flow.inputs, turned, tables[kind]).query
            window = layer.window if self.settings.window is None else self.settings.window
            sight = replace(Sight.of(last, on.rows.counts, 0, window, on.kept), row_bias=on.bias if depth > 1 else None)
            scale = layer.scale / (1 + self.settings.warming * (depth - 1))
            tail = tail_length(self.settings.depth)
            attended, masses = attend(query, on.every, self.shared[kind], None, sight, tail, scale, layer.sinks)
            parts.append(masses)
            stream = layer.leave(flow.residual, attended)
        return drafter.finish(stream), Masses.joined(parts, dim=0)

    def _guess(self, done: Finished, wanted: Tensor) -> Guesses:
        size, temperature = len(self.drafter.head), self.on.texts[0].temperature
        return Guesses.by_head(self.drafter.logits, done.output, wanted, size, temperature)

    def kept_behind(self, found: Sequence[Queries], places: Whole) -> Tensor:
        """Drafts kept by the chains at some of all anchors, up to the text's end. (anchor,)"""
        on, texts = self.on, self.on.every.texts[places]
        some, positions = on.every.sent(places), on.positions[places]
        left = np.asarray([len(text.text.ids) for text in on.texts])[texts] - 1 - positions
        drafted = torch.stack([queries.guesses.drafted[some] for queries in found], dim=1)
        return kept_inside(drafted, on.ids, *map(on.every.sent, (positions + np.asarray(on.lying.offsets)[texts], left)))


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
    on = _Texts.of(drafter, texts, settings, apart or [Apart()] * len(texts))
    run = _Chains.of(drafter, settings, on)
    found = run.chain(free=False)
    anchors = Packing(tuple(text.n_anchors(horizon) for text in texts), on.rows.device)
    inside = on.every.places < on.every.spread(anchors.counts)
    behind = run.kept_behind(found, np.flatnonzero(~inside)) if to_end else None
    first = on.every.sent(np.flatnonzero(inside))
    forced = [queries.pick(first) for queries in found] if anchors.total else []
    own = [queries.pick(first) for queries in run.chain(free=True)] if free and anchors.total else []
    return KeylessDrafted(on.every, anchors, found[0], forced, own, behind)
