"""What corrects a block's guesses token by token: scores of each row depend on the token before it.

DSpark biases them:

    vanilla: bias = W2 W1[before]
    gated:   bias = W2 (sigmoid(Wg [out; e] + bg) * e),                 e = W1[before]
    rnn:     [g c o] = Wj [s; e; out] + bj,  bias = W2 tanh(o),  s' = sigmoid(g) s + (1 - sigmoid(g)) tanh(c)

DFlash2 selects among the best few of each row, c, all others being out:

    score(c) = u_c + sum(A[before] * (P out) * B[c])

`before` is a target id whatever the draft vocabulary; `out` is what the output head reads. Beside it a head may say how likely the token
of a row is accepted, given that those before it are: sigmoid(Wc [out; W1[before]] + bc), or of `out` alone. It is trained towards what the
drafter's distribution and the target's share. Sources: deepseek-ai/DeepSpec, modeling/dspark, and speculators' models/dspark; z-lab's
dflash 0.1 and speculators' models/dflash2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from driftcli.families.layers import Linear


@dataclass(frozen=True, slots=True)
class Markov:
    """A bias of low rank: before (target vocabulary, rank), after (draft vocabulary, rank). gate, joint: of the gated and the rnn form."""

    before: Tensor
    after: Tensor
    gate: Linear | None = None
    joint: Linear | None = None

    def begin(self, blocks: int) -> Tensor:
        """The state in front of every block's first guess, (block, rank); only the rnn form moves it."""
        return self.before.new_zeros(blocks, self.before.shape[1])

    def step(self, output: Tensor, scores: Tensor, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The scores (block, draft vocabulary) with their bias, and the next state, behind the target's `tokens` (block,)."""
        known = F.embedding(tokens, self.before)
        if self.gate is not None:
            known = self.gate(torch.cat([output, known], dim=-1)).sigmoid() * known
        if self.joint is not None:
            kept, new, out = self.joint(torch.cat([state, known, output], dim=-1)).chunk(3, dim=-1)
            known, state = out.tanh(), kept.sigmoid() * state + (1 - kept.sigmoid()) * new.tanh()
        return scores + F.linear(known, self.after).float(), state


@dataclass(frozen=True, slots=True)
class Selector:
    """A choice among the `count` best tokens of a row: before, after (vocabulary, rank), hidden (rank, width)."""

    before: Tensor
    after: Tensor
    hidden: Tensor
    count: int

    def begin(self, blocks: int) -> Tensor:
        """Nothing: it knows the token before alone."""
        return self.before.new_zeros(blocks, 0)

    def step(self, output: Tensor, scores: Tensor, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """As `Markov.step`: scores of the candidates, in float32, and minus infinity for all others, of which none can be drafted."""
        best, candidates = scores.topk(self.count, dim=-1)
        key = F.embedding(tokens, self.before) * F.linear(output, self.hidden)
        chosen = best + torch.einsum("br,bkr->bk", key, F.embedding(candidates, self.after)).float()
        return torch.full_like(scores, -torch.inf).scatter(-1, candidates, chosen), state


@dataclass(frozen=True, slots=True)
class Confidence:
    """A confidence head. before: (target vocabulary, rank), what is known of the token before, None where it reads the output alone."""

    project: Linear
    before: Tensor | None

    def __call__(self, output: Tensor, tokens: Tensor) -> Tensor:
        """Probability that the guess of each row is accepted behind the target's `tokens`, (block, width) and (block,) -> (block,)."""
        read = output if self.before is None else torch.cat([output, F.embedding(tokens, self.before)], dim=-1)
        return self.project(read)[:, 0].float().sigmoid()


Correction: TypeAlias = Markov | Selector
