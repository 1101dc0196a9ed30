"""A causal language model as drafter: it hands no state from step to step, so a chain on the target's tokens is one teacher-forced forward.

PARD (arXiv:2504.18583) is one that reads a mask token in the place of each token that is not there yet: all its rows go in one pass, as
vLLM runs it with `parallel_drafting`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from driftcli.conditions import Wiring
from driftcli.families.causal_lm.tokens import Tokens
from driftcli.target.language_model import LanguageModel


@dataclass(frozen=True)
class CausalLm:
    """A drafting language model.

    tokens: what it may propose of the target's, and what it is handed. mask: the token that the rows behind the last verified one read,
    None where they read the guesses.
    """

    lm: LanguageModel
    tokens: Tokens
    mask: int | None = None

    def wired(self, wiring: Wiring) -> CausalLm:
        """The same model with another mask."""
        return self if wiring.mask is None else replace(self, mask=wiring.mask)
