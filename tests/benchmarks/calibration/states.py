"""What a run has besides right guesses: states, attention, the target's certainty and floors, by prompt, since their noise is the prompts'."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from driftcli.statistics.walks import Floats
from tests.benchmarks.calibration.counts import binned, total
from tests.benchmarks.calibration.tokens import Random, Reply, windowed

RMS_SD = 0.1  # of the state between prompts, in its logarithm
GROWTH_SD = 0.1  # of its growth over the whole chain: 0.28 of 2.9 in the bundled pre-norm head
MOVED_SD = 0.03  # of the attention that moves over the whole chain: 0.02 to 0.05 in the bundled heads
SHARES = {"sink": 0.10, "template": 0.05, "prompt": 0.55, "ahead": 0.05}  # of attention at the deepest query; the rest is on the reply
SHARE_SD = 0.2  # of the prompt's share between prompts: 0.11 to 0.27 in the bundled heads
GROWN, MOVED = 2.0, 0.15  # state RMS over the control's and attention moved where a drift of any size is planted
FAVOURITE, LOOKED_UP = 0.05, 0.10  # right first guesses of the most frequent token and of a lookup


def state_sums(anchors: np.ndarray, depth: int, random: Random, *, drifting: bool) -> dict[str, Floats]:
    """States and attention of chain and control: those of a sound head differ by noise alone."""
    along = np.arange(depth) / max(depth - 1, 1)
    per_prompt = random.standard_normal((3, len(anchors), 1))
    level = anchors[:, None] * np.exp(RMS_SD * per_prompt[0]) * np.ones(depth)
    growth = (GROWN if drifting else 1.0) ** along * np.exp(GROWTH_SD * per_prompt[1] * along)
    moved = along * ((MOVED if drifting else 0.0) + MOVED_SD * per_prompt[2])
    return {
        "fresh_rms": level,
        "forced_rms": level * growth,
        "forced_state_cosine": anchors[:, None] * (1 - 0.3 * along),
        **_attention(anchors, along, moved, random),
        "sink_anchors": anchors.astype(float),
    }


def _attention(anchors: np.ndarray, along: Floats, moved: Floats, random: Random) -> dict[str, Floats]:
    """Shares of attention by region, those of the chain with so much moved from the prompt onto its own drafts; (prompt, depth) each."""
    leaning = np.clip(1 + SHARE_SD * random.standard_normal((len(anchors), 1)), 0.2, 1.4)
    fresh: dict[str, Floats] = {name: share * leaning * np.ones_like(along) for name, share in SHARES.items()}
    fresh["ahead"] = fresh["ahead"] * along
    fresh["verified"] = 1 - np.sum(list(fresh.values()), axis=0)
    change = {"prompt": -moved, "ahead": 0.8 * moved, "verified": 0.2 * moved}
    forced = {name: share + change.get(name, 0.0) for name, share in fresh.items()}
    shares = {"fresh": fresh, "forced": forced}
    sums = {f"{feed}_{name}": anchors[:, None] * share for feed, own in shares.items() for name, share in own.items()}
    flat = anchors[:, None] * np.ones_like(along)
    return {**sums, **{f"{feed}_{name}": flat * value for feed in shares for name, value in (("entropy", 2.0), ("recent", 0.3))}}


def target_sums(reply: Reply, own: float, random: Random) -> dict[str, Floats]:
    """How sure the target is of its reply, and how many of its tokens it would choose itself; own: share of them."""
    tokens = np.where(reply.anchors > 0, reply.anchors + reply.noise.shape[2], 0).astype(float)
    entropy = 0.4 * np.exp(0.3 * random.standard_normal(len(tokens)) - 0.3 * (reply.skill - reply.skill.mean()))
    return {"reply_tokens": tokens, "own_choices": own * tokens, "target_entropy": tokens * entropy}


def certainty_sums(reply: Reply, right: np.ndarray, probability: Floats, random: Random) -> dict[str, Floats]:
    """Guesses and right ones by how sure of them the target is, and the drafter, whose probability also says how likely the text is."""
    _, anchors, depth = right.shape
    usable = reply.usable[:, :, None]
    sure = ndtr(0.8 + 0.7 * reply.ease + 0.5 * random.standard_normal(reply.ease.shape, dtype=np.float32))
    first = windowed(sure, anchors, depth)[:, :, :1]
    found = np.log(np.where(right, probability, 0.3 * (1 - probability)).clip(1e-9))
    return {
        "first_by_certainty": binned(first, usable),
        "first_right_by_certainty": binned(first, usable & right[:, :, :1]),
        "guesses_by_confidence": binned(probability, usable & np.ones(depth, dtype=bool)),
        "right_by_confidence": binned(probability, usable & right),
        "probability_by_confidence": binned(probability, usable * probability),
        "forced_log_prob": total(found, reply.usable),
        **dict.fromkeys(("forced_covered", "forced_likely"), reply.anchors[:, None] * np.ones(depth)),
    }


def floor_sums(reply: Reply, rounds: Floats, kept: Floats, random: Random) -> dict[str, Floats]:
    """What guesses without a drafter get, and what of the walk lies where the reply does not go round in circles; (prompt,) each."""
    anchors, loops = reply.anchors, reply.looping
    found = random.binomial(anchors, np.where(loops, 0.9, LOOKED_UP)).astype(float)
    return {
        "favourite_right": random.binomial(anchors, FAVOURITE).astype(float),
        "lookup_right": found,
        "lookup_rounds": np.maximum(anchors - found, 1).astype(float),
        "lookup_kept": found,
        "lookup_default_rounds": np.maximum(anchors - found, 1).astype(float),
        "lookup_default_kept": found,
        "loops": anchors * loops.astype(float),
        "calm_rounds": rounds * ~loops,
        "calm_kept": kept * ~loops,
    }
