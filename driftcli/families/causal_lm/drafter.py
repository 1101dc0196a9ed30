"""A plain causal language model as drafter: it hands no state from step to step, so a chain on the target's tokens is one teacher-forced
forward.
"""

from __future__ import annotations

from dataclasses import dataclass

from driftcli.families.causal_lm.tokens import Tokens
from driftcli.target.language_model import LanguageModel


@dataclass(frozen=True)
class CausalLm:
    """A drafting language model.

    tokens: what it may propose of the target's, and what it is handed.
    """

    lm: LanguageModel
    tokens: Tokens
