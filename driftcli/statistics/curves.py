"""The numbers by depth that separate drift from depth and difficulty, as functions of pooled sums over anchors.

Every (anchor, depth) pair has a chain query (`forced_*`) and its control (`fresh_*`), the fresh query at anchor `a + d - 1`: same tokens,
same rows, same text to predict; only the states differ. Both are summed over the same pairs, so nothing survives or drops out. Arrays are
(draw, depth) unless said; depth 1 is column 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from driftcli.conditions import BASELINE
from driftcli.domain import REGIONS, SHARES, Absent, Estimate, Share
from driftcli.probe import Trace
from driftcli.statistics.intervals import tokens_a_round, within
from driftcli.statistics.walks import Floats, Sums, acceptance_length, ratio

EVERY = 1 << 31  # entries, of a statistic that no prompt moves where it has no spread: shares that the layout of a text settles
IN_TURN = "its draft tokens are guessed one after the other"  # why a drafter has no independence of a block
MINIMAL_FRESH_ACCEPTED = 0.1  # below this many accepted fresh drafts the tax is a ratio of noise (design rule)


def _most_drafts(sums: Sums) -> float:
    """Proposals of a chain, all of which may be kept."""
    return float(sums["kept_by_length"].shape[-1])


def _most_tokens(sums: Sums) -> float:
    """Tokens that a round can commit."""
    return _most_drafts(sums) + 1


@within(0, 1)
def joint_walk(sums: Sums) -> Floats:
    """Share of walk rounds that keep at least `d` drafts."""
    return ratio(sums["walk_kept_at"], sums["walk_rounds"][:, None])


@within(0, 1)
def joint(sums: Sums) -> Floats:
    """Share of all anchors whose first `d` guesses are right."""
    return ratio(sums["kept_at"], sums["anchors"][:, None])


@tokens_a_round(_most_tokens)
def walk_acceptance_length(sums: Sums) -> Floats:
    """Acceptance length over the walk at the deepest draft length of the sums, with the bonus token; (draw,)."""
    return acceptance_length(sums["rounds_by_length"][:, -1], sums["kept_by_length"][:, -1])


@tokens_a_round(lambda sums: float(sums["rounds_to_end"].shape[-1] + 1))
def emitted_per_round(sums: Sums) -> Floats:
    """Tokens emitted a round of decoding whole replies to their ends, at the deepest draft length of the sums; (draw,)."""
    return ratio(sums["emitted"], sums["rounds_to_end"][:, -1])


@tokens_a_round(_most_tokens)
def sampled_length(sums: Sums) -> Floats:
    """Acceptance length of drafts that are sampled and verified by rejection sampling, expected along sampled texts; (draw,)."""
    return acceptance_length(sums["sampled_rounds"], sums["sampled_kept"])


@within(0, _most_drafts)
def accepted_drafts(sums: Sums) -> Floats:
    """Drafts kept a round of the walk: the acceptance length without the bonus token; (draw,)."""
    return walk_acceptance_length(sums) - 1


@tokens_a_round(_most_tokens)
def length_by_draft_length(sums: Sums) -> Floats:
    """Acceptance length for every draft length `1 .. depth`, each on its own walk over the same anchors."""
    return acceptance_length(sums["rounds_by_length"], sums["kept_by_length"])


@within(0, 1)
def forced_accuracy(sums: Sums) -> Floats:
    """Share of right guesses on the drafter's own state and the target's tokens."""
    return ratio(sums["forced_match"], sums["anchors"][:, None])


@within(0, 1)
def proposed(sums: Sums) -> Floats:
    """Share of the anchors at which there is a draft token."""
    return ratio(sums["forced_proposed"], sums["anchors"][:, None])


@within(0, 1)
def fresh_accuracy(sums: Sums) -> Floats:
    """Share of right guesses of the controls, on the target's state."""
    return ratio(sums["fresh_match"], sums["anchors"][:, None])


def log_likelihood(sums: Sums) -> Floats:
    """Mean log-probability of the wanted tokens that the draft vocabulary holds, in nats; of guesses that come with a distribution."""
    return ratio(sums["forced_log_prob"], sums["forced_likely"])


@within(0, 1)
def covered(sums: Sums) -> Floats:
    """Share of the wanted tokens that the draft vocabulary holds, at depth 1; (draw,)."""
    return ratio(sums["forced_covered"][:, 0], sums["anchors"])


@within(0, 1)
def misses_outside(sums: Sums) -> Floats:
    """Share of the wrong first guesses whose wanted token is outside the draft vocabulary; (draw,)."""
    return ratio(sums["anchors"] - sums["forced_covered"][:, 0], sums["anchors"] - sums["forced_match"][:, 0])


@within(-1, 1)
def overconfidence(sums: Sums) -> Floats:
    """Mean probability that the drafter gives its guess minus the share of right ones; above 0 it promises more than it keeps."""
    guesses, right, probability = (sums[f"{name}_by_confidence"].sum(axis=-1) for name in ("guesses", "right", "probability"))
    return ratio(probability - right, guesses)


@within(0, 1)
def calibration_error(sums: Sums) -> Floats:
    """Expected calibration error: mean distance between a guess's probability and the share of right ones, over ten bins of probability.

    Source: Guo et al. 2017 (arXiv:1706.04599), equation 5.
    """
    apart = np.abs(sums["probability_by_confidence"] - sums["right_by_confidence"]).sum(axis=-1)
    return ratio(apart, sums["guesses_by_confidence"].sum(axis=-1))


def first_by_certainty(sums: Sums) -> Floats:
    """First guesses and right ones by the target's own probability of the wanted token, one behind the other; (draw, 2 * bin)."""
    return np.concatenate([sums["first_by_certainty"][:, 0], sums["first_right_by_certainty"][:, 0]], axis=-1)


def over_expected(own: Floats, others: Floats) -> Floats:
    """Right first guesses of some prompts over those that the accuracy of others at equal certainty would give; both `first_by_certainty`.

    Where the others have no guess of that certainty, nothing can be expected and nothing is counted. (draw, 2 * bin) twice -> (draw,).
    """
    (count, right), (their_count, their_right) = (np.split(one, 2, axis=-1) for one in (own, others))
    known = their_count > 0
    expected = np.where(known, count * ratio(their_right, their_count), 0).sum(axis=-1)
    return ratio(np.where(known, right, 0).sum(axis=-1), expected)


@within(0, 1)
def favourite_accuracy(sums: Sums) -> Floats:
    """Share of right first guesses of one that always proposes the most frequent token of the replies to all other prompts; (draw,)."""
    return ratio(sums["favourite_right"], sums["anchors"])


def over_favourite(sums: Sums) -> Floats:
    """Share of right first guesses beyond those of the most frequent token; (draw,)."""
    return forced_accuracy(sums)[:, 0] - favourite_accuracy(sums)


@within(0, 1)
def lookup_accuracy(sums: Sums) -> Floats:
    """Share of right first guesses of a lookup of the last tokens in the text so far (`driftcli.traces.floors`); (draw,)."""
    return ratio(sums["lookup_right"], sums["anchors"])


def lookup_drafts(sums: Sums) -> Floats:
    """Drafts that such a lookup of one to three tokens keeps a round of its own walk at the full depth; (draw,)."""
    return ratio(sums["lookup_kept"], sums["lookup_rounds"])


def default_lookup_drafts(sums: Sums) -> Floats:
    """The same of a lookup of five tokens, which is what vLLM looks up unless told; (draw,)."""
    return ratio(sums["lookup_default_kept"], sums["lookup_default_rounds"])


@within(0, 1)
def looping_share(sums: Sums) -> Floats:
    """Share of anchors at which the reply goes round in circles; (draw,)."""
    return ratio(sums["loops"], sums["anchors"])


def calm_drafts(sums: Sums) -> Floats:
    """Drafts kept a round of the walk, of the rounds that begin where the reply does not go round in circles; (draw,)."""
    return ratio(sums["calm_kept"], sums["calm_rounds"])


@within(0, 1)
def own_choices(sums: Sums) -> Floats:
    """Share of the reply tokens that the target would choose itself when it reads them in one pass; (draw,)."""
    return ratio(sums["own_choices"], sums["reply_tokens"])


def target_entropy(sums: Sums) -> Floats:
    """Mean entropy of the target over the reply tokens, in nats; (draw,)."""
    return ratio(sums["target_entropy"], sums["reply_tokens"])


@within(-1, 1, exact=1)
def accuracy_gap(sums: Sums) -> Floats:
    """Control accuracy minus forced accuracy."""
    return fresh_accuracy(sums) - forced_accuracy(sums)


@within(-1, 1)
def handoff(sums: Sums) -> Floats:
    """Share of right guesses that losing the target's state once costs: the relative gap at depth 2; (draw,)."""
    gap = accuracy_gap(sums)
    return ratio(gap[:, 1], fresh_accuracy(sums)[:, 1]) if gap.shape[1] > 1 else np.full(len(gap), np.nan)


@within(-1, 1, exact=2)
def compounding(sums: Sums) -> Floats:
    """Share of right guesses that feeding on itself again and again costs, beyond the hand-off; undefined at depth 1."""
    lost = ratio(accuracy_gap(sums), fresh_accuracy(sums)) - handoff(sums)[:, None]
    lost[:, 0] = np.nan
    return lost


@within(-1, 1, exact=1)
def block_independence(sums: Sums) -> Floats:
    """Share of right guesses that guessing side by side costs a block, against guesses of the same token that know those before it."""
    return ratio(accuracy_gap(sums), fresh_accuracy(sums))


@within(-1, 1)
def self_feeding_tax(sums: Sums) -> Floats:
    """Share of accepted fresh drafts that self-feeding loses: an upper bound on what curing it can give; (draw,)."""
    return ratio(sums["fresh_accepted"] - sums["accepted"], sums["fresh_accepted"])


def fresh_accepted(sums: Sums) -> Floats:
    """Fresh draft tokens that are accepted an anchor; (draw,)."""
    return ratio(sums["fresh_accepted"], sums["anchors"])


def estimate_tax(trace: Trace) -> Estimate | Absent:
    """The self-feeding tax of a run's baseline, absent below 0.1 accepted fresh drafts: there it is a ratio of noise."""
    fresh = trace.estimate(fresh_accepted)
    if fresh.value is not None and fresh.value < MINIMAL_FRESH_ACCEPTED:
        return Absent(f"only {fresh.value:.2f} fresh drafts are accepted an anchor, below {MINIMAL_FRESH_ACCEPTED} the tax is noise")
    return trace.estimate(self_feeding_tax)


def vocabulary_lost(trace: Trace) -> bool:
    """Whether the head's vocabulary map holds zeros alone, and its guesses read so know nothing."""
    kind, above = trace.pair.record.get("vocab_map"), trace.estimate(over_favourite, BASELINE)
    return kind is not None and kind.value == "zeros" and isinstance(above, Estimate) and above.low <= 0


def rms(feed: str) -> Callable[[Sums], Floats]:
    """Mean RMS of the state of a feed."""
    return lambda sums: ratio(sums[f"{feed}_rms"], sums["anchors"][:, None])


def rms_ratio(sums: Sums) -> Floats:
    """RMS of the chain's state over the control's."""
    return ratio(sums["forced_rms"], sums["fresh_rms"])


def state_cosine(sums: Sums) -> Floats:
    """Mean cosine between the chain's state and the control's."""
    return ratio(sums["forced_state_cosine"], sums["anchors"][:, None])


def entropy(feed: str) -> Callable[[Sums], Floats]:
    """Mean attention entropy of a feed in nats."""
    return lambda sums: ratio(sums[f"{feed}_entropy"], sums["anchors"][:, None])


def share(feed: str, name: Share) -> Callable[[Sums], Floats]:
    """Mean attention share of a region over all anchors, so that the regions sum to 1; the sink's is absent where no trajectory has one."""

    @within(0, 1, exact=EVERY)
    def mean(sums: Sums) -> Floats:
        nowhere = name == "sink" and not sums["sink_anchors"].any()
        return ratio(sums[f"{feed}_{name}"], np.zeros(1) if nowhere else sums["anchors"][:, None])

    return mean


def region_change(name: Share) -> Callable[[Sums], Floats]:
    """Chain share minus control share, signed."""
    return lambda sums: share("forced", name)(sums) - share("fresh", name)(sums)


def prompt_side_change(sums: Sums) -> Floats:
    """Change of everything that was there before the reply: sink, template and prompt together."""
    parts = [sums[f"forced_{name}"] - sums[f"fresh_{name}"] for name in ("sink", "template", "prompt")]
    return ratio(np.sum(parts, axis=0), sums["anchors"][:, None])


@within(0, 1, exact=EVERY)
def attention_drift(sums: Sums) -> Floats:
    """Total variation distance between the mean region shares of chain and control; descriptive, never negative."""
    parts = [sums[f"forced_{name}"] - sums[f"fresh_{name}"] for name in REGIONS]
    return ratio(np.abs(parts).sum(axis=0) / 2, sums["anchors"][:, None])


BY_DEPTH: dict[str, Callable[[Sums], Floats]] = {
    "joint_walk": joint_walk,
    "joint": joint,
    "proposed": proposed,
    "forced_accuracy": forced_accuracy,
    "fresh_accuracy": fresh_accuracy,
    "accuracy_gap": accuracy_gap,
    "compounding": compounding,
    "block_independence": block_independence,
    "rms": rms("forced"),
    "rms_ratio": rms_ratio,
    "state_cosine": state_cosine,
    "attention_drift": attention_drift,
    **{name: share("forced", name) for name in SHARES},
    "entropy": entropy("forced"),
    "control_rms": rms("fresh"),
    **{f"control_{name}": share("fresh", name) for name in SHARES},
    "control_entropy": entropy("fresh"),
    **{f"{name}_change": region_change(name) for name in SHARES},
    "prompt_side_change": prompt_side_change,
    **{f"free_{name}": share("free", name) for name in SHARES},
    "free_rms": rms("free"),
    "free_entropy": entropy("free"),
}
