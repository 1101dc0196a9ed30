"""How a head fares, as counts by hand: the sums over anchors by prompt that all numbers of a run are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from driftcli.domain import SHARES
from driftcli.statistics.walks import Floats, Sums

HAIR = 1e-9  # by which prompts differ
ANCHORS = 100  # of every prompt, so that a count reads as a percentage
ByDepth: TypeAlias = Sequence[float] | Sequence[Sequence[float]]  # one row for all prompts, or a few that are dealt over them in turn


def by_prompt(values: ByDepth, prompts: int) -> Floats:
    """(prompt, depth) of one row for all prompts, or of a few that are dealt over them in turn.

    No two prompts are alike to the last digit: of prompts that are, nothing but the rule of three is known.
    """
    rows = np.atleast_2d(np.array(values, dtype=float))
    dealt: Floats = rows[np.arange(prompts) % len(rows)]
    apart: Floats = HAIR * np.multiply.outer(np.arange(prompts) % 7, np.arange(1, rows.shape[1] + 1)) * dealt**2
    return dealt - apart


@dataclass(frozen=True)
class Head:
    """What happened along the chain, by depth, as counts out of 100 anchors a prompt; alike in every prompt unless rows are given.

    fresh, forced: right guesses on the target's state and on the head's own. growth: RMS of its own state over the fresh one. fresh_ahead,
    forced_ahead: attention on the tokens just drafted; off_prompt: what leaves the prompt for the reply. rounds, kept: of the walk, by
    draft length. log_prob: nats of the wanted tokens inside the draft vocabulary, `covered` of them. probability: the head's own, of its
    guesses together, as many as are right unless given. entropy: the target's, nats a token. favourite, looked_up: right first guesses of
    the most frequent token and of a lookup, a prompt. loops: anchors where the reply goes round in circles, and calm the rounds and kept
    drafts that begin elsewhere, all unless given. own_choices: reply tokens that the target chooses again.
    """

    fresh: ByDepth = (80, 80, 80, 80)
    forced: ByDepth = (80, 72, 72, 72)  # a hand-off of 10% and nothing more
    growth: ByDepth = (1, 1, 1, 1)
    fresh_ahead: Sequence[float] = (0, 5, 10, 15)
    forced_ahead: Sequence[float] = (0, 5, 10, 15)
    off_prompt: Sequence[float] = (0, 0, 0, 0)
    rounds: Sequence[float] = (50, 40, 40, 40)
    kept: ByDepth = (40, 40, 40, 40)
    log_prob: ByDepth = (-100, -200, -200, -200)
    covered: ByDepth = (100, 100, 100, 100)
    probability: Sequence[float] | None = None
    entropy: float = 0.5
    favourite: Sequence[float] = (5,)
    looked_up: Sequence[float] = (10,)
    loops: float = 0
    calm: tuple[float, float] | None = None
    own_choices: float = 100
    prompts: int = 10

    @property
    def depth(self) -> int:
        """Draft tokens a chain."""
        return len(by_prompt(self.forced, 1)[0])

    @cached_property
    def sums(self) -> Sums:
        """What `driftcli.statistics.curves` reads, (prompt,) or (prompt, depth)."""
        moved = self._dealt(self.off_prompt)
        return {
            "anchors": np.full(self.prompts, float(ANCHORS)),
            "fresh_match": self._dealt(self.fresh),
            "forced_match": self._dealt(self.forced),
            "fresh_rms": np.full_like(moved, 300.0),
            "forced_rms": 300.0 * self._dealt(self.growth),
            "kept_at": np.zeros_like(moved),
            "rounds_by_length": self._dealt(self.rounds),
            "kept_by_length": self._dealt(self.kept),
            "forced_log_prob": self._dealt(self.log_prob),
            "forced_covered": self._dealt(self.covered),
            "forced_likely": self._dealt(self.covered),
            **self._attention(moved),
            **self._floors(),
            **self._calm(),
            **self._confidence(),
        }

    def _dealt(self, values: ByDepth) -> Floats:
        return by_prompt(values, self.prompts)

    def _each(self, values: Sequence[float]) -> Floats:
        """(prompt,) of a count a prompt, dealt over them in turn."""
        return by_prompt([[count] for count in values], self.prompts)[:, 0]

    def _attention(self, moved: Floats) -> Sums:
        none = {f"{feed}_{name}": np.zeros_like(moved) for feed in ("fresh", "forced") for name in SHARES}
        ahead = {"fresh_ahead": self._dealt(self.fresh_ahead), "forced_ahead": self._dealt(self.forced_ahead)}
        return {**none, **ahead, "fresh_prompt": 50 + 0 * moved, "forced_prompt": 50 - moved, "sink_anchors": np.zeros(self.prompts)}

    def _floors(self) -> Sums:
        every = np.full(self.prompts, float(ANCHORS))
        looked_up = self._each(self.looked_up)
        return {
            "reply_tokens": every,
            "target_entropy": every * self.entropy,
            "own_choices": np.full(self.prompts, float(self.own_choices)),
            "favourite_right": self._each(self.favourite),
            "lookup_right": looked_up,
            "lookup_rounds": every,
            "lookup_kept": looked_up,
            "lookup_default_rounds": every,
            "lookup_default_kept": looked_up,
            "loops": np.full(self.prompts, float(self.loops)),
        }

    def _calm(self) -> Sums:
        rounds, kept = (self._dealt(values)[:, -1] for values in (self.rounds, self.kept))
        if self.calm is not None:
            rounds, kept = (np.full(self.prompts, float(count)) for count in self.calm)
        return {"calm_rounds": rounds, "calm_kept": kept}

    def _confidence(self) -> Sums:
        told: dict[str, ByDepth] = {
            "guesses": (float(ANCHORS),) * self.depth,
            "right": self.forced,
            "probability": self.forced if self.probability is None else self.probability,
        }
        return {f"{name}_by_confidence": self._dealt(values)[:, :, None] for name, values in told.items()}
