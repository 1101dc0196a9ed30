"""What a head is healed by: cross-entropy against the target's distribution, and the tokens that would be accepted.

The second is what serving pays by. With `a_i` the probability that rejection sampling keeps draft token i, the sum of min(p, q) over the
vocabulary, a chain from an anchor yields sum_d prod_(i <= d) a_i accepted tokens, as `E[accepted]` of the sampled acceptance length; here
over the chains that are drafted, each of which ends with its first wrong guess. Alone its gradient vanishes where a guess is far off, so
both are used together. Sources: Leviathan et al. 2023 (arXiv:2211.17192, section 3.2); DistillSpec (arXiv:2310.08461), which trains on the
total variation 1 - a; EAGLE-3 for the weights of steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from driftcli.families.self_feeding import SelfFeedingDrafter
from driftcli.healing.head import TrainedDrafter
from driftcli.healing.weights import with_weights
from driftcli.training.losses import Loss, TargetHead
from driftcli.training.sampling import ALL_ROWS, Among, Drawn
from driftcli.training.streams import Batch


@dataclass(frozen=True)
class AcceptanceLoss:
    """Losses of unrolled steps. share: how much of the loss is accepted tokens, the rest being cross-entropy; in [0, 1]."""

    share: float

    def __call__(
        self,
        head: TrainedDrafter,
        _: Tensor,
        target: TargetHead,
        batch: Batch,
        unroll: int,
        drawn: Drawn = ALL_ROWS,
        among: Among | None = None,
    ) -> Iterator[Loss]:
        """Loss of each step on the chains that verification has not ended yet, from anchors of which every guess lies in a reply; agreement
        is with the reply's own tokens.

        Row i of step s guesses x[i + 2 + s], for which the target's state is that of position i + 1 + s.
        """
        rows = batch.ids.shape[1] - 1 - unroll
        counted = drawn.of(_counted(batch.replied, rows, unroll), 0)
        wanted = _Wanted.of(target, batch, counted, unroll, among)
        at, real = _packed(counted)
        drafter = head.drafter()
        chains, kept = head.chains(drafter, batch, unroll, at), torch.ones_like(at, dtype=torch.float32)
        for step in range(unroll):
            if not real.any():
                yield Loss(kept.new_zeros(()), kept.new_zeros(()), 0)
                continue
            outputs, probabilities = chains.step().output[real.flatten()], wanted.at(at, step, real)
            scores, guesses = _scores(drafter, outputs, among)
            learned = F.cross_entropy(scores, probabilities)
            if self.share:
                kept = kept.masked_scatter(real, kept[real] * torch.minimum(probabilities, scores.softmax(-1)).sum(-1))
                learned = (1 - self.share) * learned - self.share * kept[real].sum() / counted.sum()
            right = guesses == batch.ids.gather(1, at + 2 + step)[real]
            yield Loss(learned, right.float().mean(), len(scores))
            places, going = _packed(real.masked_scatter(real, self.going_on(right)))
            at, kept, real = at.gather(1, places), kept.gather(1, places), going
            chains.only(places)

    def going_on(self, right: Tensor) -> Tensor:
        """Which chains are drafted further, (chain,): those whose guess was right; verification throws away all behind a wrong one."""
        return right


def _scores(drafter: SelfFeedingDrafter, outputs: Tensor, among: Among | None) -> tuple[Tensor, Tensor]:
    """Scores of tokens, (chain, token), and the guesses, target ids, (chain,)."""
    if among is None:
        scores = drafter.logits(outputs)
        return scores, drafter.to_target(scores.argmax(-1))
    scores = with_weights(drafter, {"head": drafter.head[among.ids]}).logits(outputs)
    return among.weighed(scores), drafter.to_target(among.ids[scores.argmax(-1)])


@dataclass(frozen=True)
class _Wanted:
    """The target's distributions at the positions that chains from some rows guess, each computed once.

    known: (position, token); place: of each position in it, (text, position).
    """

    known: Tensor
    place: Tensor

    @classmethod
    def of(cls, target: TargetHead, batch: Batch, counted: Tensor, unroll: int, among: Among | None) -> _Wanted:
        """counted: rows from which chains begin, (text, row)."""
        needed, rows = torch.zeros_like(batch.replied), counted.shape[1]
        for step in range(unroll):
            needed[:, 1 + step : 1 + step + rows] |= counted
        return cls(target.probabilities(batch.tops[needed], among), needed.flatten().cumsum(0).view_as(needed) - 1)

    def at(self, rows: Tensor, step: int, real: Tensor) -> Tensor:
        """What the guesses of a step are to be, (chain, token), of the chains from some rows that are real, (text, chain) each."""
        return self.known[self.place.gather(1, rows + 1 + step)[real]]


def _packed(counted: Tensor) -> tuple[Tensor, Tensor]:
    """The counted rows of each text, ascending, filled up with others to as many as the most, and which count; (text, chosen) each."""
    counts = counted.sum(1, keepdim=True)
    chosen = (~counted).byte().argsort(dim=1, stable=True)[:, : int(counts.max())]
    return chosen, torch.arange(chosen.shape[1], device=counted.device) < counts


def _counted(replied: Tensor, rows: int, unroll: int) -> Tensor:
    """Anchors' rows whose guesses are all tokens of a reply: row i guesses positions i + 2 .. i + 1 + unroll; (text, row)."""
    inside = torch.ones_like(replied[:, :rows])
    for step in range(unroll):
        inside &= replied[:, 2 + step : 2 + step + rows]
    return inside
