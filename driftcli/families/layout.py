"""A layout: how the files of a drafter are told, and how its producer names what the family's other producers name otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from driftcli.sources.files import Json

Shapes = Mapping[str, tuple[int, ...]]
Family = Literal["eagle3", "eagle", "peagle", "mtp", "block", "assistant", "feed-forward", "causal-lm", "pard"]  # that have files
LANGUAGE_MODELS = ("causal-lm", "pard")  # families whose drafters are whole models
Producer = Literal[
    "SafeAILab", "SpecForge", "speculators", "ModelOpt", "NeMo", "SpecDrift", "DeepSpec", "AWS", "z-lab", "transformers", "FasterDecoding",
    "Hydra", "IBM",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Format:
    """A layout: its name, its family, who writes it, the test on config and tensor shapes that tells it, and how its names are mapped."""

    name: str
    family: Family
    producer: Producer
    matches: Callable[[Mapping[str, Json], Shapes], bool]
    renames: Mapping[str, str] | None = None

    def canonical(self, stored: str) -> str:
        """The name of a stored tensor in one spelling for all layouts."""
        for pattern, replacement in (self.renames or {}).items():
            stored = re.sub(pattern, replacement, stored)
        return stored


def has(shapes: Shapes, pattern: str) -> bool:
    """Whether some tensor's name matches."""
    return any(re.search(pattern, name) for name in shapes)
