"""Some texts with a chain from each of their anchors, for drafters whose chains add no rows to what they read of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from driftcli.conditions import DraftSettings, Noise
from driftcli.engine.chains import noised
from driftcli.engine.drafted import Drafted, Laid, Queries
from driftcli.engine.packing import Packing, Whole
from driftcli.engine.trajectories import Trajectory
from driftcli.texts.prompts import content_hash


@dataclass(frozen=True)
class Anchored:
    """Texts, their tokens, and the target's states of all rows that a query may read, (row, width). every: how many
    anchors `P .. N - 2` each text has; positions: theirs.
    """

    texts: Sequence[Trajectory]
    laid: Laid
    rows: Packing
    every: Packing
    positions: Whole
    states: Tensor

    @classmethod
    def of(cls, texts: Sequence[Trajectory], states: Callable[[Sequence[int]], Tensor], depth: int) -> Anchored:
        """The texts, with the target's states of so many first rows of each."""
        counts = tuple(len(text.text.ids) - 2 for text in texts)
        found = states(counts)
        rows = Packing(counts, found.device)
        every = Packing(tuple(text.n_anchors(1) for text in texts), found.device)
        positions = every.places + every.spread([text.prompt_length for text in texts])
        return cls(texts, Laid.of(texts, depth, found.device), rows, every, positions, found)

    def tokens(self, ahead: int) -> Tensor:
        """Tokens so far behind every anchor; past a text's end stand some that nobody reads."""
        return self.laid.tokens(self.every, self.positions + ahead)

    def states_at(self, ahead: int) -> Tensor:
        """The target's states of the rows in front of the anchors so far behind every anchor, or of the text's last row."""
        last = np.asarray(self.rows.counts)[self.every.texts] - 1
        places = np.minimum(self.positions - 1 + ahead, last) + self.every.spread(self.rows.offsets[:-1])
        return self.states[self.every.sent(places)]

    def noisy(self, embedded: Tensor, states: Tensor, noise: Noise | None, step: str) -> tuple[Tensor, Tensor]:
        """Embeddings and states of every anchor, with noise on one of the two, drawn for a text's step."""
        if noise is None:
            return embedded, states
        counts = zip(self.texts, self.every.counts, strict=True)
        drawn = [(f"{content_hash(text.prompt)} {text.turn} {step}", count) for text, count in counts]
        return (noised(embedded, noise, drawn), states) if noise.path == "embedding" else (embedded, noised(states, noise, drawn))

    def handed_on(self, settings: DraftSettings, depth: int) -> Tensor | None:
        """The target's states that the queries of a depth read in the place of the drafter's own; None where they read that."""
        if settings.held:
            return self.states_at(0)
        every = settings.reanchored
        return None if not every or (depth - 1) % every else self.states_at(depth - 1)

    def drafted(
        self, made: type[Drafted], chain: Callable[[bool], list[Queries]], horizon: int, *, free: bool, to_end: bool, alike: bool = False
    ) -> Drafted:
        """What chains of every anchor give, of those whose guesses up to `horizon` lie inside their text. chain: on the text's tokens, or
        on its own guesses; alike: which makes no difference.
        """
        found = chain(False)
        anchors = Packing(tuple(text.n_anchors(horizon) for text in self.texts), self.rows.device)
        inside = self.every.places < self.every.spread(anchors.counts)
        drafted = [queries.guesses.drafted for queries in found]
        behind = self.laid.kept_inside(drafted, self.every, self.positions, np.flatnonzero(~inside)) if to_end else None
        first = self.every.sent(np.flatnonzero(inside))
        forced = [queries.pick(first) for queries in found] if anchors.total else []
        if not free or not anchors.total:
            return made(self.every, anchors, found[0], forced, [], behind)
        own = forced if alike else [queries.pick(first) for queries in chain(True)]
        return made(self.every, anchors, found[0], forced, own, behind)
