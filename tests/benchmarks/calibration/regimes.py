"""What kinds of pairs are simulated, and what is planted into them.

The spreads are those of real runs: of the bundled pair (`tiny`), of a SmolLM2 pair, one reply of which goes round in circles (`smol`), and
of a public EAGLE-3 head on Llama, with as much spread between prompts as the other two (`llama`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

DEPTH = 8  # proposals a chain
CATEGORIES = tuple(f"category-{number}" for number in range(8))  # as the built-in prompts have


@dataclass(frozen=True)
class Regime:
    """How long replies are, how often first guesses are right on them, and by how much prompts differ in both.

    anchors, anchors_sd, most_anchors: of a prompt. right: share of right first guesses. skill_sd: between prompts, in probits. linked:
    correlation of a token's difficulty with the one before. handoff: share of right guesses that losing the target's state once costs.
    easy_is_long: correlation of a prompt's length with how easy it is. looping: share of prompts whose reply goes round in circles. kept_skill: correlation of a prompt's skill with that on another text of
    the same prompt. jumpy: share of prompts that a change of the rendering moves at all, the reply being the same, and by how many probits.
    dropped: share of prompts whose new reply is too short under a change. tiring: probits that every doubling of a reply costs, from its
    64th token on.
    """

    name: str
    anchors: float
    anchors_sd: float
    most_anchors: int
    right: float
    skill_sd: float
    linked: float
    handoff: float
    easy_is_long: float = 0.0
    looping: float = 0.0
    looped: float = 2.5
    kept_skill: float = 0.6
    jumpy: tuple[float, float] = (1.0, 0.1)
    dropped: float = 0.0
    tiring: float = 0.0


TINY = Regime("tiny", 55, 42, 120, 0.91, 0.45, 0.15, 0.015, easy_is_long=0.3, jumpy=(0.7, 0.15), dropped=0.05)
SMOL = Regime("smol", 84, 10, 120, 0.48, 0.25, 0.15, 0.06, looping=0.015)
LLAMA = Regime("llama", 105, 20, 120, 0.70, 0.28, 0.15, 0.06)
REGIMES = {regime.name: regime for regime in (TINY, SMOL, LLAMA)}
CEILING = replace(LLAMA, name="ceiling", handoff=0.0, looping=0.95, looped=6.0)  # most prompts lose no draft at all
FLOOR = replace(LLAMA, name="floor", right=1e-6)  # none keeps any

Planted = Literal["drift", "template", "context", "domain"]
AXES: tuple[Planted, ...] = ("drift", "template", "context", "domain")


@dataclass(frozen=True)
class Scenario:
    """A regime and what is lost in it besides, as a share: of right guesses at the last depth (drift), of accepted drafts (template,
    context), of right first guesses in one category (domain). Nothing is lost that is not named: such a pair is sound.
    """

    regime: Regime
    losses: Mapping[Planted, float] = field(default_factory=dict)

    def loss(self, axis: Planted) -> float:
        """What is lost on an axis."""
        return self.losses.get(axis, 0.0)
