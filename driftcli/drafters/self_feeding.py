"""What the engine needs of a drafter that feeds on its own state: one step, cut in two around its attention.

The engine owns the attention between `project` and `finish`, because there the keys of many chains meet and the shares are measured. A
family is a file that fills this contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from driftcli.domain import DraftSettings


@dataclass(frozen=True, slots=True)
class Projected:
    """A step before its attention: query (head, step, size), key and value (key head, step, size), RoPE applied; residual (step, width)."""

    query: Tensor
    key: Tensor
    value: Tensor
    residual: Tensor


@dataclass(frozen=True, slots=True)
class Finished:
    """A step after its attention: what the output head reads, and the state fed to the next step; both (step, width)."""

    output: Tensor
    state: Tensor


@dataclass(frozen=True, slots=True)
class RopeTables:
    """Cosines and sines of every row, fixed for one trajectory, any attention scaling included; (row, size) each."""

    cos: Tensor
    sin: Tensor


class SelfFeedingDrafter(Protocol):
    """A drafter with one attention layer that feeds on its own state."""

    def capture(self, settings: DraftSettings) -> tuple[int, ...]:
        """Boundaries of the target's streams that it reads, in the order it reads them."""

    def rope(self, rows: int) -> RopeTables:
        """RoPE tables for the rows of one trajectory; frequencies that depend on the length are fixed by `rows`."""

    def fuse(self, streams: Mapping[int, Tensor], settings: DraftSettings) -> Tensor:
        """The first state of every row from the target's streams, (row, target width) each -> (row, width)."""

    def contributions(self, streams: Mapping[int, Tensor], settings: DraftSettings) -> list[Tensor]:
        """What each stream adds to the fused input, in capture order; they sum to `fuse`."""

    def project(self, tokens: Tensor, states: Tensor, rows: Tensor, rope: RopeTables, settings: DraftSettings) -> Projected:
        """A step on target-vocabulary `tokens` (step,) and `states` (step, width) at absolute `rows` (step,)."""

    def finish(self, residual: Tensor, attended: Tensor, settings: DraftSettings) -> Finished:
        """The rest of the step; attended: (step, head * size)."""

    def logits(self, output: Tensor) -> Tensor:
        """Scores over the draft vocabulary in float32, (step, draft vocabulary)."""

    def to_target(self, guesses: Tensor) -> Tensor:
        """Target ids of draft ids."""

    def to_draft(self, tokens: Tensor) -> Tensor:
        """Draft ids of target ids, -1 where the draft vocabulary lacks the token."""
