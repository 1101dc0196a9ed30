"""What the engine needs of a drafter that feeds on its own state: a step, cut around the attention of each of its layers.

The engine owns the attention, because there the keys of many chains meet and the shares are measured. A family is a file that fills this
contract; `layers` holds the decoder layers that all families share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from driftcli.conditions import Wiring


@dataclass(frozen=True, slots=True)
class Flow:
    """A step in front of a layer: what its projections read (step, inputs), and the residual stream that goes around (step, width)."""

    inputs: Tensor
    residual: Tensor


@dataclass(frozen=True, slots=True)
class MaskRow:
    """What rows of a parallel drafter read in the place of a token that is not there yet and of its state; state: (1, width)."""

    token: int
    state: Tensor


@dataclass(frozen=True, slots=True)
class Projected:
    """A step before a layer's attention: query (head, step, size), key and value (key head, step, size), RoPE applied."""

    query: Tensor
    key: Tensor
    value: Tensor


@dataclass(frozen=True, slots=True)
class Finished:
    """A step after its last layer: what the output head reads, and the state fed to the next step; both (step, width)."""

    output: Tensor
    state: Tensor


@dataclass(frozen=True, slots=True)
class RopeTables:
    """Cosines and sines of every row, fixed for one trajectory, any attention scaling included; (row, size) each."""

    cos: Tensor
    sin: Tensor


class DrafterLayer(Protocol):
    """One decoder layer, cut around its attention."""

    @property
    def scale(self) -> float:
        """What scores are multiplied with."""

    @property
    def sinks(self) -> Tensor | None:
        """A learned score a head, (head,), that takes attention to no key; None for none."""

    @property
    def window(self) -> int | None:
        """Rows that a query sees, its own included, None for all."""

    @property
    def from_anchor(self) -> bool:
        """Whether a chain's window is counted back from the anchor's row, with the whole chain seen besides."""

    def enter(self, stream: Tensor) -> Flow:
        """The residual stream (step, width) of the layer before, normed for this one."""

    def project(self, inputs: Tensor, rows: Tensor, rope: RopeTables) -> Projected:
        """Queries, keys and values at absolute `rows` (step,)."""

    def leave(self, residual: Tensor, attended: Tensor) -> Tensor:
        """The residual stream after the layer; attended: (step, head * value size)."""


class SelfFeedingDrafter(Protocol):
    """A drafter that feeds on its own state, or whose further rows read a mask in its place, all in one pass."""

    @property
    def mask(self) -> MaskRow | None:
        """What the rows behind the first read, None for a drafter that feeds on its own state."""

    @property
    def layers(self) -> Sequence[DrafterLayer]:
        """Its decoder layers in order."""

    @property
    def head(self) -> Tensor:
        """Its output projection (draft vocabulary, width)."""

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Boundaries of the target's streams that it reads, in the order it reads them."""

    def wired(self, wiring: Wiring) -> SelfFeedingDrafter:
        """The same weights, put together otherwise."""

    def rope(self, rows: int) -> RopeTables:
        """RoPE tables for the rows of one trajectory; frequencies that depend on the length are fixed by `rows`."""

    def ropes(self, rows: Sequence[int]) -> RopeTables:
        """The same of several texts, one text's rows behind the other's, each fixed by its own."""

    def fuse(self, streams: Mapping[int, Tensor]) -> Tensor:
        """The first state of every row from the target's streams, (row, target width) each -> (row, width)."""

    def contributions(self, streams: Mapping[int, Tensor]) -> list[Tensor]:
        """What each stream adds to the fused input, in capture order; they sum to `fuse`."""

    def embed(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """Embeddings of target-vocabulary `tokens` at absolute `rows`, (step,) each -> (step, width)."""

    def begin(self, embedded: Tensor, states: Tensor) -> Flow:
        """A step on embeddings and states, (step, width) each, in front of the first layer."""

    def finish(self, stream: Tensor) -> Finished:
        """The rest of the step, from the residual stream after the last layer."""

    def logits(self, output: Tensor) -> Tensor:
        """Scores over the draft vocabulary in float32, (step, draft vocabulary)."""

    def to_target(self, guesses: Tensor) -> Tensor:
        """Target ids of draft ids."""

    def to_draft(self, tokens: Tensor) -> Tensor:
        """Draft ids of target ids, -1 where the draft vocabulary lacks the token."""
