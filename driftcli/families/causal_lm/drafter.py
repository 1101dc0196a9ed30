"""A plain causal language model as drafter: it hands no state from step to step, so a chain on the target's tokens is one teacher-forced
forward.
"""

from __future__ import annotations

from dataclasses import dataclass

from driftcli.target.language_model import LanguageModel


@dataclass(frozen=True)
class CausalLm:
    """A drafting language model.

    vocabulary: tokens it shares with the target; padding rows beyond them are never proposed.
    """

    lm: LanguageModel
    vocabulary: int
