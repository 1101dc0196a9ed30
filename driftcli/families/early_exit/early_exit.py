"""A drafter cut from the target: its first layers, then the target's own final norm and output head.

It reads tokens, with a cache of its own, and is measured as any causal language model that drafts is. transformers decodes so where
`assistant_early_exit` is given; a target that was not trained for it mostly drafts badly, and how badly is what a run tells.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

from driftcli.domain import ModelCard, Sourced
from driftcli.errors import UsageError

EXIT = "early-exit"  # names it in the place of a drafter, with the number of layers behind it


@dataclass(frozen=True, slots=True)
class EarlyExit:
    """How many of the target's layers draft."""

    layers: int
    alike: ClassVar = "an early exit runs the target's own layers"
    no_files: ClassVar = "an early exit is the target itself up to a layer, so there is nothing to scan; driftcli diagnose measures it"

    @property
    def name(self) -> str:
        """As the command line names it."""
        return f"{EXIT}:{self.layers}"

    def check(self, target: str, layers: int | None) -> None:
        """UsageError where a target of so many layers has no exit there; None where its config does not tell."""
        if layers is not None and not 1 <= self.layers < layers:
            raise UsageError(f"--drafter {self.name}: {target} has {layers} layers, expected an exit behind one of 1 to {layers - 1}")

    def card(self, target: ModelCard) -> ModelCard:
        """What identifies it in a run: the target's files, and the layer."""
        mark = sha256(f"{target.fingerprint} {self.name}".encode()).hexdigest()[:16] if target.fingerprint else ""
        return ModelCard(self.name, target.revision, target.model_type, mark, target.files)

    def record(self, layers: int) -> dict[str, Sourced]:
        """Its fields, of a target of so many layers."""
        return {
            "format": Sourced("early exit of the target", "command line"),
            "layers": Sourced(self.layers, "command line"),
            "layers_of_target": Sourced(layers, "config:num_hidden_layers"),
        }


def exit_named(name: str) -> EarlyExit | None:
    """The exit that a drafter's name means, None for any other drafter; UsageError for one that names no number of layers."""
    if name != EXIT and not name.startswith(f"{EXIT}:"):
        return None
    number = re.fullmatch(rf"{EXIT}:([0-9]{{1,5}})", name)
    if number is None:
        raise UsageError(f"--drafter {name}: expected the number of the target's layers that draft, as {EXIT}:4")
    return EarlyExit(int(number[1]))
