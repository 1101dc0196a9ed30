"""What a target's logits say of the token that follows, computed in bounded pieces."""

from __future__ import annotations

import torch
from torch import Tensor

from driftcli.target.together import at_once

LEAST = torch.finfo(torch.float32).min  # of a token that is ruled out, below the best one: finite, and without weight


def said_of(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Of queries (query, vocabulary) the probability of their wanted tokens at a temperature, entropies in nats, choices; (3, query)."""
    wanted, few = wanted.to(logits.device), max(1, at_once(logits.device) // logits.shape[-1])
    parts = []
    for some, tokens in zip(torch.split(logits, few), torch.split(wanted, few), strict=True):
        parts.append(torch.stack([*prob_and_entropy(some if temperature == 1 else some / temperature, tokens), some.argmax(-1).float()]))
    return torch.cat(parts, dim=1)


def prob_and_entropy(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of the wanted tokens and entropy in nats; (query, vocabulary) -> (query,) each."""
    gaps = (logits.float() - logits.amax(-1, keepdim=True)).clamp_(min=LEAST)
    weights = gaps.exp()
    total = weights.sum(-1)
    return weights.gather(-1, wanted[:, None])[:, 0] / total, total.log() - weights.mul_(gaps).sum(-1) / total
