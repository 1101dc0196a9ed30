"""Every finding code, once: the axis it belongs to, what it means, what looks the same and is not, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass

from driftcli.domain import Axis


@dataclass(frozen=True, slots=True)
class Code:
    """What a finding code stands for."""

    name: str
    axis: Axis
    meaning: str
    looks_like: str
    remedies: tuple[str, ...]


CODES: tuple[Code, ...] = (
    Code(
        "DRIFT-STATE",
        "drift",
        "Feeding on its own state costs right guesses beyond the first hand-off, and the state grows along the chain against the fresh "
        "state of the same tokens.",
        "A checkpoint whose feedback is served normed but was trained raw, or the other way round.",
        ("draft fewer tokens", "retrain with post-norm feedback and per-stream norms (EAGLE 3.1)", "train with a deeper unroll"),
    ),
    Code(
        "DRIFT-ATTENTION",
        "drift",
        "Feeding on its own state costs right guesses beyond the first hand-off, and attention moves from the prompt onto the tokens just "
        "drafted.",
        "A healthy head also looks at its own drafts more as there are more of them: only the change against the control of the same "
        "tokens counts.",
        ("draft fewer tokens", "retrain with post-norm feedback and per-stream norms (EAGLE 3.1)", "train with a deeper unroll"),
    ),
    Code(
        "DEPTH-COLLAPSE",
        "drift",
        "From some depth on more than half of the right guesses are lost to self-feeding.",
        "A head trained with a short unroll collapses just past it, whatever its norms.",
        ("draft no deeper than the depth named", "train with a deeper unroll"),
    ),
    Code(
        "STREAM-IMBALANCE",
        "drift",
        "One captured stream supplies nearly all of the fused input, and no norm stands between the streams and fc.",
        "Wrong capture layers: a stream far from the one trained on can dwarf the others.",
        ("retrain with one norm per stream before fc (EAGLE 3.1 fc_norm)",),
    ),
    Code(
        "STATE-FRAGILE",
        "drift",
        "Noise of half the RMS on the state the head reads takes most of the accepted drafts, while the same noise on the embedding leaves "
        "most: along a chain every state is a little off, and this head cannot bear it.",
        "A head that leans on its state because it is a good one: with normed feedback it bears the noise all the same.",
        ("retrain with post-norm feedback and per-stream norms (EAGLE 3.1)", "train with a deeper unroll"),
    ),
    Code(
        "MAGNITUDE-CODED",
        "drift",
        "Holding the RMS of the state along a chain costs accepted drafts: the head reads how large its state is, not just its direction.",
        "Growth that carries nothing: holding it would cost nothing.",
        ("retrain with normed feedback (EAGLE 3.1)", "do not rescale the state when serving"),
    ),
    Code(
        "GROWTH-COSTS",
        "drift",
        "Holding the RMS of the state along a chain gives accepted drafts back: the growth itself is what the head cannot read.",
        "A gain within the noise of few prompts: the interval must lie beyond what counts.",
        ("retrain with normed feedback (EAGLE 3.1)", "draft fewer tokens"),
    ),
    Code(
        "EXPOSURE-GAP",
        "capacity",
        "Feeding on its own state costs right guesses beyond the first hand-off, yet neither the RMS of the state nor the attention "
        "drifts: the head reads its own states less well than the target's, because it saw few of them in training.",
        "Drift: there the state grows or attention leaves the prompt against the control. A feedback served otherwise than trained.",
        ("train with a deeper unroll", "train on more of the target's own replies", "draft fewer tokens"),
    ),
    Code(
        "LOW-CAPACITY",
        "capacity",
        "Already the first guess, made on the target's own state, is often wrong: there is little that any cure of drift could restore.",
        "Wrong capture layers, a shifted token or a lost embedding also lower the first guess.",
        ("train on more of the target's own replies", "draft fewer tokens"),
    ),
)

BY_NAME = {code.name: code for code in CODES}
