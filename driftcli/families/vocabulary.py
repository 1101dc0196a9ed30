"""A head's draft vocabulary: what its output rows mean in the target's vocabulary, and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class DraftVocabulary:
    """Target id of each draft id, and draft id of each target id, -1 outside."""

    to_target: Tensor
    to_draft: Tensor

    @classmethod
    def of(cls, to_target: Tensor, vocabulary: int) -> DraftVocabulary:
        """From the target id of each draft id; `vocabulary` counts the target's tokens."""
        to_draft = torch.full((vocabulary,), -1, device=to_target.device)
        return cls(to_target, to_draft.index_copy(0, to_target, torch.arange(len(to_target), device=to_target.device)))
