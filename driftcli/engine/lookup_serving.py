"""A lookup as a server steps it: it reads on, and looks up what followed the last tokens before."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor

from driftcli.families.lookup.lookup import Lookup
from driftcli.traces.floors import Read


class ServedLookup:
    """A lookup of one batch; as `ServedDrafter`. drafts: tokens of a round.

    Where it finds nothing, or less, the last token stands for what is missing: a server would send less.
    """

    boundaries: tuple[int, ...] = ()
    token_offset = 0

    def __init__(self, drafter: Lookup, drafts: int) -> None:
        self._texts, self._drafts = [Read((drafter.fewest, drafter.most))], drafts
        self._found, self._place = [[0]], 0

    def read(self, tokens: Tensor, streams: Mapping[int, Tensor]) -> Tensor:
        """As the contract; it reads no streams."""
        rows = tokens.tolist()
        for text, row in zip(self._texts, rows, strict=True):
            for token in row:
                text.on(token)
        self._found = [[*text.draft(self._drafts), row[-1]] for text, row in zip(self._texts, rows, strict=True)]
        self._place = 0
        return self._guess(tokens.device)

    def follow(self, guesses: Tensor) -> Tensor:
        """As the contract."""
        self._place += 1
        return self._guess(guesses.device)

    def crop(self, rows: int) -> None:
        """As the contract."""
        for text in self._texts:
            text.back(rows)

    def repeat(self, size: int) -> None:
        """As the contract."""
        self._texts = [deepcopy(text) for text in self._texts for _ in range(size)]

    def _guess(self, device: torch.device) -> Tensor:
        return torch.tensor([found[min(self._place, len(found) - 1)] for found in self._found], device=device)
