"""The target's distribution over the next token, computed from its stream before the final norm, where its engine tells no logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PretrainedConfig

from driftcli.target.distributions import prob_and_entropy
from driftcli.target.in_process import CHUNK
from driftcli.target.parts import Parts

FACTORS = ("logit_scale", "lm_head_multiplier")  # of the logits, as Cohere and Falcon-H1 have them in the config
DIVISOR, SOFTCAP = "logits_scaling", "final_logit_softcapping"  # as Granite and Gemma have them there
ORDER = 1e-4  # what log-probabilities may differ by where float32 sums in another order (chosen by us)


@dataclass(frozen=True)
class Output:
    """Final norm and head (vocabulary, width), whose scores are bounded by `softcap`, if any, then multiplied by `scale`."""

    norm: nn.Module
    head: Tensor
    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, parts: Parts, config: PretrainedConfig) -> Output | None:
        """That of a target, None where its decoder has no final norm by a known name."""
        if parts.final_norm is None:
            return None
        scale = 1.0 / float(getattr(config, DIVISOR, None) or 1.0)
        for name in FACTORS:
            scale *= float(getattr(config, name, None) or 1.0)
        return cls(parts.final_norm, parts.head[: config.vocab_size], scale, getattr(config, SOFTCAP, None))

    def logits(self, stream: Tensor) -> Tensor:
        """Scores in float32; (row, width) before the final norm -> (row, vocabulary)."""
        scores = linear(self.norm(stream), self.head).float()
        return self.scale * (scores if self.softcap is None else self.softcap * torch.tanh(scores / self.softcap))

    def probs_and_entropies(self, stream: Tensor, wanted: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Probability of the wanted token at each row and entropy in nats, at a temperature; in chunks of rows."""
        chunks = [slice(at, at + CHUNK) for at in range(0, len(wanted), CHUNK)]
        parts = [prob_and_entropy(self.logits(stream[rows]) / temperature, wanted[rows].to(stream.device)) for rows in chunks]
        probs, entropies = zip(*parts, strict=True)
        return torch.cat(probs).cpu(), torch.cat(entropies).cpu()

    def apart(self, stream: Tensor, told: Sequence[Mapping[int, float]]) -> tuple[float, float]:
        """By how much log-probabilities from here differ at most from some that are told for each row, and how much rounding may do.

        told: of a row, log-probabilities of some tokens at temperature 1. Rounding: two steps of the head's dtype at the largest logit, and
        for float32 that sums in another order.
        """
        logits = self.logits(stream)
        found = logits.log_softmax(-1)
        most = max(abs(float(found[row, token]) - value) for row, some in enumerate(told) for token, value in some.items())
        return most, max(ORDER, 2 * torch.finfo(self.head.dtype).eps * float(logits.abs().max()))
