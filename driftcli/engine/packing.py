"""How the items of several texts lie: packed, one text's behind the other's, or padded, one text's beside the other's.

What is done item by item runs packed, where nothing is wasted; attention, which holds a text's items against one another, runs padded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Packing:
    """Counts of items by text, and where they are computed with."""

    counts: tuple[int, ...]
    device: torch.device
    _parts: dict[tuple[int, int], Packing] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each text's items begin among the packed ones, and where the last one's end."""
        return tuple(accumulate(self.counts, initial=0))

    @property
    def total(self) -> int:
        """Items of all texts."""
        return self.offsets[-1]

    @cached_property
    def longest(self) -> int:
        """Most items of a text."""
        return max(self.counts)

    @cached_property
    def texts(self) -> Whole:
        """Which text each item is of; (item,), on the host as all numbers of places are."""
        return self.spread(range(len(self.counts)))

    @cached_property
    def places(self) -> Whole:
        """Each item's place within its text; (item,)."""
        return np.arange(self.total) - self.spread(self.offsets[:-1])

    def spread(self, by_text: Sequence[int]) -> Whole:
        """A number a text, at each of its items; (item,)."""
        found: Whole = np.repeat(np.asarray(by_text, dtype=np.int64), self.counts)
        return found

    def sent(self, numbers: Whole | NDArray[np.bool_]) -> Tensor:
        """Numbers of the host where is computed with them."""
        return torch.from_numpy(np.ascontiguousarray(numbers)).to(self.device)

    @property
    def _even(self) -> bool:
        return self.longest * len(self.counts) == self.total

    @cached_property
    def _padded(self) -> Tensor:
        """Packed places, side by side; past a text's end stands its last item, or another's. (text * longest,)"""
        last = np.maximum(np.asarray(self.offsets[1:]) - 1, 0)[:, None]
        return self.sent(np.minimum(np.asarray(self.offsets[:-1])[:, None] + np.arange(self.longest), last).reshape(-1))

    @cached_property
    def _packed(self) -> Tensor:
        return self.sent(self.texts * self.longest + self.places)

    def side_by_side(self, packed: Tensor, dim: int) -> Tensor:
        """Packed items of axis `dim` as two axes (text, longest); what fills up a text is numbers of some other item."""
        x = packed if self._even else packed.index_select(dim, self._padded)
        return torch.unflatten(x, dim, (len(self.counts), self.longest))

    def behind_one_another(self, padded: Tensor, dim: int) -> Tensor:
        """The reverse: two axes (text, longest) from `dim` on as one of packed items."""
        x = padded.flatten(dim, dim + 1)
        return x if self._even else x.index_select(dim, self._packed)

    def times(self, size: int) -> Packing:
        """So many items in place of each."""
        return Packing(tuple(count * size for count in self.counts), self.device)

    def part(self, texts: slice) -> Packing:
        """Some of the texts."""
        return self._parts.setdefault((texts.start, texts.stop), Packing(self.counts[texts], self.device))

    def blocks(self, room: int) -> Iterator[Block]:
        """The items in blocks of so many at most, those that fill up shorter texts included: of whole texts, or parts of a single one."""
        items, texts = max(1, room), max(1, room // max(1, self.longest))
        for start in range(0, len(self.counts), texts):
            some = slice(start, min(start + texts, len(self.counts)))
            first, last = self.offsets[some.start], self.offsets[some.stop]
            if first == last:
                continue
            if texts > 1 or last - first <= items:
                yield Block(some, slice(first, last), self.part(some))
                continue
            for at in range(first, last, items):
                end = min(at + items, last)
                yield Block(some, slice(at, end), Packing((end - at,), self.device))


@dataclass(frozen=True)
class Block:
    """Some texts, and those of their packed items that are computed together."""

    texts: slice
    items: slice
    packing: Packing


def means(packing: Packing, values: Tensor) -> Tensor:
    """Means over each text's items, by a product with shares, which sums in the same order every time; (..., item) -> (..., text)."""
    shares = torch.zeros(packing.total, len(packing.counts), device=values.device)
    texts, counts = packing.texts, np.asarray(packing.counts, dtype=np.float32)
    weights = torch.from_numpy(1 / counts[texts]).to(values.device)
    shares[torch.arange(packing.total, device=values.device), packing.sent(texts)] = weights
    return values.float() @ shares
