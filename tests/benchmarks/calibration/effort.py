"""How much is simulated: enough to see every bound, or all that the page tells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Runs a cell, prompts of a population, by how many prompts runs are drawn, and of how many scenarios."""

    runs: int
    prompts: int
    sizes: tuple[int, ...]
    families: tuple[int, ...]
    scenarios: int


FULL = Effort(runs=1000, prompts=4000, sizes=(8, 16, 24, 40, 80), families=(8, 16, 24, 40, 80), scenarios=2)
SHORT = Effort(runs=200, prompts=2000, sizes=(8, 24, 80), families=(16,), scenarios=1)
