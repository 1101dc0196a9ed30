"""Chains of heads without attention: all anchors of some texts at once, the head of depth `d` guessing at all of them in one step.

Such heads read of a text the target's state in front of the anchor, and of some the tokens behind it. The control of a chain's query is the
first head's guess from the anchor `d - 1` later: the same token to guess, with the target's state of the text between. Only where one set
of weights is run again on a state of its own is there a state that it is held against; else the two guess with different weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from driftcli.conditions import DraftSettings
from driftcli.engine.anchored import Anchored
from driftcli.engine.chains import pinned
from driftcli.engine.drafted import Drafted, Guesses, Queries, packed_streams
from driftcli.engine.trajectories import Trajectory
from driftcli.families.feed_forward.drafter import FeedForward, Stage


@dataclass(frozen=True)
class _Stages:
    """The drafting of some texts under one setting."""

    drafter: FeedForward
    settings: DraftSettings
    on: Anchored

    def chain(self, free: bool) -> list[Queries]:
        """The queries of every anchor, depth by depth, on the text's tokens or on their own guesses."""
        found = list[Queries]()
        memory, tokens, stage = self.drafter.begin(self.on.states_at(0)), self.on.tokens(0), self.drafter.stages[0]
        for depth in range(1, self.settings.depth + 1):
            step = "fresh 1" if depth == 1 else f"{'free' if free else 'forced'} {depth}"
            embedded, memory = self.on.noisy(stage.embed(tokens), memory, self.settings.noise, step)
            done = stage(memory, embedded)
            guesses = self._guess(stage, done.output, self.on.tokens(depth))
            own = pinned(done.memory, found[0].state) if self.settings.pinned and found else done.memory
            found.append(Queries(guesses, None, own if self.drafter.recurrent else None))
            given = self.on.handed_on(self.settings, depth + 1)
            memory, stage = (own, self._stage(depth + 1)) if given is None else (self.drafter.begin(given), self.drafter.stages[0])
            tokens = guesses.drafted if free else self.on.tokens(depth)
        return found

    def _stage(self, depth: int) -> Stage:
        """The stage of a depth; behind the last one of tied weights it would be the same again, and nobody asks."""
        return self.drafter.stages[min(depth, len(self.drafter.stages)) - 1]

    def _guess(self, stage: Stage, output: Tensor, wanted: Tensor) -> Guesses:
        size, temperature = self.drafter.vocabulary, self.on.texts[0].temperature
        inside = torch.where(wanted < size, wanted, -1)
        return Guesses.by_head(lambda some: stage.head(some).float(), output, inside, size, temperature)


@torch.inference_mode()
def draft_stages(
    drafter: FeedForward, texts: Sequence[Trajectory], settings: DraftSettings, horizon: int, *, free: bool, to_end: bool = False
) -> Drafted:
    """Fresh, forced and, if asked, free chains of every anchor whose guesses up to `horizon` lie inside its text, as `draft_together`; of
    heads that read no token both are one.
    """
    assert settings.depth <= len(drafter.stages)
    drafter = drafter.wired(settings.wiring)
    on = Anchored.of(texts, lambda counts: drafter.fuse(packed_streams(texts, counts, drafter.boundaries)), settings.depth)
    alike = drafter.blind and settings.noise is None  # noise is drawn for each feed by itself
    return on.drafted(Drafted, _Stages(drafter, settings, on).chain, horizon, free=free, to_end=to_end, alike=alike)
