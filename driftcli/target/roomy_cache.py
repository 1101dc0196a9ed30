"""A cache with room for a whole reply: a decoding step writes its own keys and values and copies nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of one layer, (row, key head, column, size), of which a step sees some rows and the columns from one to another.

    Columns are those of a batch whose texts end together; one that no text reaches holds zeros, and a mask hides it. at: the column that
    every row writes next and the only thing that moves, where all tensors must keep their places; all columns are seen then.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shape = rows, columns
        self.rows, self.first, self.end = slice(0, rows), 0, 0
        self.at: Tensor | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make the room, of zeros: what a mask hides must be finite."""
        rows, columns = self._shape
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = (one.new_zeros(rows, one.shape[1], columns, one.shape[3]) for one in (key_states, value_states))
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        """Write what is new, and hand out what is seen."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        keys, values = (one[self.rows] for one in self._kept)
        if self.at is not None:
            return keys.index_copy_(2, self.at, key_states), values.index_copy_(2, self.at, value_states)
        start, self.end = self.end, self.end + key_states.shape[-2]
        keys[:, :, start : self.end] = key_states
        values[:, :, start : self.end] = value_states
        return keys[:, :, self.first : self.end], values[:, :, self.first : self.end]

    @property
    def _kept(self) -> tuple[Tensor, Tensor]:
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Columns that are seen before a step."""
        return self.end - self.first

    def take(self, other: RoomyLayer, row: int, columns: Sequence[slice], rows: Sequence[int]) -> None:
        """These rows begin with columns of a row of another layer, or of another row, one span behind the other."""
        assert other.keys is not None and other.values is not None
        if not self.is_initialized:
            self.lazy_initialization(other.keys, other.values)
        for mine, its in zip(self._kept, other._kept, strict=True):
            at = 0
            for span in columns:
                mine[list(rows), :, at : at + span.stop - span.start] = its[row : row + 1, :, span]
                at += span.stop - span.start

    def move(self, source: Sequence[int], into: Sequence[int]) -> None:
        """Rows `source` take the places of rows `into`, as far as the columns are seen."""
        for one in self._kept:
            one[list(into), :, self.first : self.end] = one[list(source), :, self.first : self.end]


class RoomyCache(Cache):
    """The layers of a model with such room, for so many rows of so many columns."""

    def __init__(self, config: PretrainedConfig, rows: int, columns: int) -> None:
        self._roomy = [RoomyLayer(rows, columns) for _ in DynamicCache(config=config).layers]
        super().__init__(layers=list(self._roomy))

    @property
    def _used(self) -> list[RoomyLayer]:
        """Those of layers that have keys of their own."""
        return [layer for layer in self._roomy if layer.is_initialized]

    def look(self, rows: slice, first: int, end: int) -> None:
        """What comes next is written by these rows at column `end`, and they see the columns from `first` on."""
        for layer in self._roomy:
            layer.rows, layer.first, layer.end = rows, first, end

    def take(self, other: RoomyCache, row: int, columns: Sequence[slice], rows: Sequence[int]) -> None:
        """These rows begin with columns of a row of another cache, or of another row, one span behind the other."""
        for layer, its in zip(self._roomy, other._roomy, strict=True):
            if its.is_initialized:
                layer.take(its, row, columns, rows)

    def move(self, source: Sequence[int], into: Sequence[int]) -> None:
        """Rows `source` take the places of rows `into`, as far as the columns are seen."""
        for layer in self._used:
            layer.move(source, into)

    @property
    def end(self) -> int:
        """The column that is written next."""
        return self._roomy[0].end

    def seen(self, count: int) -> tuple[slice, slice]:
        """Rows and columns that a step of so many tokens sees."""
        return self._roomy[0].rows, slice(self._roomy[0].first, self._roomy[0].end + count)

    def fix(self, device: torch.device) -> Tensor:
        """From now on the rows write at the one column that the tensor which comes back holds."""
        at = torch.tensor([self.end], device=device)
        for layer in self._roomy:
            layer.at = at
        return at

    def loosen(self) -> None:
        """As before `fix`."""
        for layer in self._roomy:
            layer.at = None
