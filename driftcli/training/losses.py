"""What a head learns from: the target's distribution, and how a loss against it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PretrainedConfig

from driftcli.errors import FormatError
from driftcli.target.language_model import LanguageModel
from driftcli.training.sampling import Among
from driftcli.training.streams import HeadInputs

MOST_APART = 1e-2  # of a target's probabilities from those recomputed; bfloat16 alone moves them by a few thousandths
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Loss:
    """Of one unrolled step: cross-entropy in nats, top-1 agreement with the target within the draft vocabulary in [0, 1], rows counted; and
    in nats that of a head that says how sure the guess is, where there is one.
    """

    nats: Tensor
    agreement: Tensor
    rows: int
    doubt: Tensor | None = None

    @property
    def learned(self) -> Tensor:
        """What a head is to lower, in nats."""
        return self.nats if self.doubt is None else self.nats + self.doubt


@dataclass(frozen=True)
class TargetHead:
    """Rows of the target's output head (token, width), and its config, which may bend the logits."""

    rows: Tensor
    config: PretrainedConfig

    @classmethod
    def of(cls, target: LanguageModel, ids: Tensor | None, precision: Precision) -> TargetHead:
        """The target's own head, for the tokens of `ids` or for all."""
        rows = target.head if ids is None else target.head[ids.to(target.head.device)]
        return cls(rows.to(target.device, getattr(torch, precision)), target.config)

    @torch.no_grad()
    def probabilities(self, tops: Tensor, among: Among | None = None) -> Tensor:
        """The target's distribution over the tokens of `rows`, or those `among`, (..., token), from what its head reads, (..., width)."""
        if among is None:
            return self.logits(tops).softmax(-1)
        return among.weighed(TargetHead(self.rows[among.ids], self.config).logits(tops)).softmax(-1)

    def logits(self, tops: Tensor) -> Tensor:
        """The target's scores of the tokens of `rows`, (..., token)."""
        logits = (tops.to(self.rows.dtype) @ self.rows.T).float() * (getattr(self.config, "logit_scale", None) or 1.0)
        logits = logits / (getattr(self.config, "logits_scaling", None) or 1.0)
        if cap := getattr(self.config, "final_logit_softcapping", None):
            logits = cap * (logits / cap).tanh()
        return logits


@torch.inference_mode()
def require_known_head(target: LanguageModel, ids: Sequence[int]) -> None:
    """Raise FormatError for a target that makes its distribution otherwise than `TargetHead`: a head would learn the wrong one."""
    with HeadInputs(target) as tops:
        own = target.model(torch.tensor([ids], device=target.device), use_cache=False).logits[0, -1].float().softmax(-1)
    known = TargetHead(target.head, target.config).probabilities(tops.found[0][0, -1])
    if (apart := (own - known.to(own)).abs().max().item()) > MOST_APART:
        raise FormatError(
            f"{target.source.name}: its probabilities are up to {apart:.3g} from those of its output head, so it bends its logits in a way "
            "that is not known here, expected plain, scaled or softcapped ones; use another target"
        )


def pooled(checks: Sequence[Sequence[Loss]]) -> tuple[Tensor, Tensor]:
    """Loss and agreement of each unrolled step over several batches, weighted by their rows, 0 where there are none; (step,) each."""
    rows, nats, right = (
        torch.tensor([[float(getattr(loss, name)) for loss in check] for check in checks]) for name in ("rows", "nats", "agreement")
    )
    total = rows.sum(0).clamp(min=1)
    return (nats * rows).sum(0) / total, (right * rows).sum(0) / total
