"""Heads without attention as a server steps them: of a text only the state in front of the anchor is read, so nothing is kept."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from driftcli.families.feed_forward.drafter import FeedForward


class ServedStages:
    """Heads of one batch; as `ServedDrafter`. Behind the last head that one stands for any further."""

    token_offset = 1

    def __init__(self, drafter: FeedForward) -> None:
        self.boundaries = drafter.boundaries
        self._drafter = drafter
        self._memories: list[Tensor] = []  # what each stage reads, of the round so far

    @torch.inference_mode()
    def read(self, tokens: Tensor, streams: Mapping[int, Tensor]) -> Tensor:
        """As the contract; of newly verified rows the last one's state is read."""
        states = self._drafter.fuse({boundary: stream[:, -1] for boundary, stream in streams.items()})
        self._memories = [self._drafter.begin(states)]
        return self._step(tokens[:, -1])

    @torch.inference_mode()
    def follow(self, guesses: Tensor) -> Tensor:
        """As the contract."""
        return self._step(guesses)

    def crop(self, rows: int) -> None:
        """As the contract: there is nothing to take back."""

    def repeat(self, size: int) -> None:
        """As the contract."""
        self._memories = [memory.repeat_interleave(size, dim=0) for memory in self._memories]

    def _step(self, tokens: Tensor) -> Tensor:
        number = min(len(self._memories), len(self._drafter.stages)) - 1
        stage, memory = self._drafter.stages[number], self._memories[number]
        done = stage(memory, stage.embed(tokens.to(memory.device)))
        self._memories = [*self._memories[: number + 1], done.memory]
        return stage.head(done.output).argmax(-1)
