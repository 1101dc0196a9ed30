"""Replies token by token: which guesses of the chain and of its control are right, by a probit model.

A guess is right where its score is above 0. The score of a fresh guess is the prompt's skill and how easy the token is, which the tokens
before it foretell a little (AR(1)). The chain's guess of the same token has the same ease, some luck of its own, which the guesses of one
chain share in part, and the damage of feeding on itself. What is neither skill nor damage has variance 1, so how often guesses are right is
known in closed form, and damage can be set to what shall be lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv, ndtr, ndtri

from driftcli.statistics.positions import FIRST
from driftcli.statistics.walks import Floats
from tests.benchmarks.calibration.regimes import Regime

SHARED = 0.9  # correlation of a chain's score with its control's at the same token
OF_CHAIN = 0.5  # share of the rest that all guesses of a chain have in common
DAMAGE_CV = 0.5  # spread of the damage between prompts over its mean: 0.4 to 0.5 in the bundled pre-norm head
KNOWN = 0.8  # correlation of a score with what the drafter itself knows of it, on which its probability rests
KEPT_LENGTH = 0.5  # share of prompts whose reply under another rendering is as long as their own
Random = np.random.Generator


@dataclass(frozen=True)
class Prompts:
    """What prompts are, whatever is replied to them: (prompt,) each.

    trait: how easy, of variance 1. damage: of feeding on itself, as a multiple of what is usual. anchors: of the reply as it is rendered.
    """

    trait: Floats
    damage: Floats
    anchors: np.ndarray

    @classmethod
    def of(cls, regime: Regime, prompts: int, random: Random) -> Prompts:
        """Prompts of a regime, drawn at random."""
        trait = random.standard_normal(prompts)
        damage = random.gamma(DAMAGE_CV**-2, DAMAGE_CV**2, prompts)
        return cls(trait, damage, anchors_of(regime, trait, random))


def anchors_of(regime: Regime, trait: Floats, random: Random) -> np.ndarray:
    """Anchors of replies, longer where prompts are easier in a regime where that is so; (prompt,)."""
    linked = regime.easy_is_long
    place = ndtr(linked * trait + np.sqrt(1 - linked**2) * random.standard_normal(len(trait)))
    shape = (regime.anchors / regime.anchors_sd) ** 2
    length: np.ndarray = np.clip((gammaincinv(shape, place) * regime.anchors / shape).round(), 1, regime.most_anchors).astype(int)
    return length


@dataclass(frozen=True)
class Reply:
    """One reply to each prompt, and what of the drafter's scores on it is neither skill nor damage.

    anchors, skill (in probits), looping: (prompt,). ease: (prompt, token), of the tokens behind the first anchor, which is the noise of
    fresh guesses. noise: (prompt, anchor, depth), of the chain's.
    """

    anchors: np.ndarray
    skill: Floats
    looping: np.ndarray
    ease: np.ndarray
    noise: np.ndarray

    @property
    def usable(self) -> np.ndarray:
        """Which places of the grid are anchors; (prompt, anchor)."""
        usable: np.ndarray = np.arange(self.noise.shape[1]) < self.anchors[:, None]
        return usable

    @property
    def fresh(self) -> np.ndarray:
        """Which guesses of the controls are right; (prompt, anchor, depth)."""
        return windowed(self.ease > -self.skill[:, None], *self.noise.shape[1:])

    def deeper(self, depth: int, random: Random) -> Reply:
        """The same reply with chains of another depth, on anchors that end as much earlier."""
        less = depth - self.noise.shape[2]
        anchors = np.maximum(self.anchors - less, 0)
        return Reply(anchors, self.skill, self.looping, self.ease, chain_noise(self.ease, depth, random))


def own_reply(prompts: Prompts, regime: Regime, depth: int, random: Random) -> Reply:
    """The replies to the prompts as they are rendered."""
    return _reply(prompts, prompts.anchors, regime, depth, random)


def other_reply(prompts: Prompts, regime: Regime, depth: int, random: Random) -> Reply:
    """Replies to the same prompts under another rendering, of like length; a few are too short for a chain."""
    count = len(prompts.anchors)
    like = np.where(random.random(count) < KEPT_LENGTH, prompts.anchors, anchors_of(regime, prompts.trait, random))
    return _reply(prompts, np.where(random.random(count) < regime.dropped, 0, like), regime, depth, random)


def _reply(prompts: Prompts, anchors: np.ndarray, regime: Regime, depth: int, random: Random) -> Reply:
    count, same = len(anchors), regime.kept_skill
    loops = random.random(count) < regime.looping
    own = np.sqrt(same) * prompts.trait + np.sqrt(1 - same) * random.standard_normal(count)
    centre = float(ndtri(regime.right)) * np.sqrt(1 + regime.skill_sd**2)
    ease = random.standard_normal((count, regime.most_anchors + depth - 1), dtype=np.float32)
    for token in range(1, ease.shape[1]):
        ease[:, token] = regime.linked * ease[:, token - 1] + np.sqrt(1 - regime.linked**2) * ease[:, token]
    ease -= (regime.tiring * np.log2(np.maximum(np.arange(ease.shape[1]) / FIRST, 1))).astype(np.float32)
    skill = np.where(loops, regime.looped, centre + regime.skill_sd * own)
    return Reply(anchors, skill, loops, ease, chain_noise(ease, depth, random))


def chain_noise(ease: np.ndarray, depth: int, random: Random) -> np.ndarray:
    """The chain's share in the ease of the tokens that it guesses, and its own luck; depth 1 is a fresh guess. (prompt, anchor, depth)"""
    count, anchors = len(ease), ease.shape[1] - depth + 1
    shared = random.standard_normal((count, anchors, 1), dtype=np.float32)
    luck = random.standard_normal((count, anchors, depth), dtype=np.float32)
    of_tokens = windowed(ease, anchors, depth)
    rest = np.float32(np.sqrt((1 - SHARED**2) * (1 - OF_CHAIN))) * luck + np.float32(np.sqrt((1 - SHARED**2) * OF_CHAIN)) * shared
    noise: np.ndarray = np.float32(SHARED) * of_tokens + rest
    noise[:, :, 0] = of_tokens[:, :, 0]
    return noise


def windowed(of_tokens: np.ndarray, anchors: int, depth: int) -> np.ndarray:
    """What is known of tokens, seen from every anchor; (prompt, token) -> (prompt, anchor, depth)."""
    return np.lib.stride_tricks.sliding_window_view(of_tokens, depth, axis=1)[:, :anchors]


def damage_by_depth(reply: Reply, damage: Floats, lost: Floats) -> Floats:
    """Usual damage in probits, such that so much of the controls' right guesses is lost; (depth,) -> (depth,)."""
    weights = reply.anchors / reply.anchors.sum()

    def left(usual: float) -> float:
        return float(weights @ ndtr(reply.skill - usual * damage))

    whole = left(0.0)
    found: Floats = np.array([solved(left, (1 - share) * whole) if share else 0.0 for share in lost])
    return found


def solved(falling: Callable[[float], float], wanted: float, most: float = 8.0) -> float:
    """Where a falling function takes a value, between 0 and `most`, by bisection."""
    low, high = 0.0, most
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > wanted else (low, middle)
    return (low + high) / 2


def likely(centre: np.ndarray, noise: np.ndarray, random: Random) -> Floats:
    """The drafter's probability that each of its guesses is right, which holds on average; both (prompt, anchor, depth)."""
    unknown = np.float32(np.sqrt(1 - KNOWN**2))
    known = KNOWN * noise + unknown * random.standard_normal(noise.shape, dtype=np.float32)
    probability: Floats = ndtr((centre + KNOWN * known) / unknown)
    return probability
