"""How severe a loss is: one ladder for every loss that is judged, so that a grade means the same on every axis."""

from __future__ import annotations

from dataclasses import dataclass

from driftcli.domain import Estimate, Severity


@dataclass(frozen=True, slots=True)
class Grades:
    """Losses, as shares, from which one counts, is moderate, is severe; a design rule, to be calibrated on the bundled pairs."""

    mild: float = 0.05
    moderate: float = 0.15
    severe: float = 0.35

    def of(self, loss: Estimate) -> Severity:
        """As high as the whole interval supports; for a loss that counts."""
        return "severe" if loss.low >= self.severe else "moderate" if loss.low >= self.moderate else "mild"

    def may_matter(self, loss: Estimate) -> bool:
        """Whether a loss that does not surely count may still be moderate: then it is undecided, not nothing."""
        return loss.high >= self.moderate

    @property
    def undecided(self) -> str:
        """What is said of such a loss."""
        return f"which may be nothing or {self.moderate:.0%} and more; more prompts would tell"


def lost(kept: Estimate) -> Estimate:
    """What is missing of a share that is kept."""
    return Estimate(1 - kept.value, 1 - kept.high, 1 - kept.low, kept.n_prompts)


def drafts_lost(loss: Estimate) -> str:
    """A loss of accepted drafts in words."""
    return f"{loss.value:z.0%} of the accepted drafts are lost [{loss.low:z.0%}, {loss.high:z.0%}]"
