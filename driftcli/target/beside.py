"""Texts that are read while prompts are about to be continued: of a text that begins as a prompt does, only what is behind that is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from driftcli.target.asked import Asked
from driftcli.target.beginnings import SHARED, Taken, taken_of
from driftcli.target.distributions import said_of
from driftcli.target.growing import GrowingBatch, KeptBatch, Rows
from driftcli.target.recorded import Steppable
from driftcli.target.target import Kept, Unread, Writing
from driftcli.target.together import room, together

Where = Mapping[int, tuple[GrowingBatch, int]]  # of prompts, by their places: the batch that has read them, and their rows in it


def read_beside(target: Steppable, texts: Sequence[Unread], prompts: Sequence[Sequence[int]], where: Where, kept: Kept, chunk: int) -> None:
    """Keep what reading texts gives that begin as one of the prompts does, as far as there is room; the others are left to be read alone.

    chunk: tokens of one text that are read at once, at most.
    """
    distinct = {(tuple(text.ids), text.prompt_length): text for text in texts}
    for some, taken in _parts(list(distinct.values()), prompts, room(target.device, target.model.config.vocab_size)):
        size = kept.size(sum(len(text.ids) for text in some), int(target.model.config.hidden_size))
        if size > kept.room or not kept.admits(size):
            return
        batch = _TextBatch(target, some, taken, where, kept, chunk)
        batch.read()
        batch.hand_out([])


def _parts(texts: Sequence[Unread], prompts: Sequence[Sequence[int]], most: int) -> Iterator[tuple[list[Unread], list[Taken]]]:
    """Texts of about one length whose keys are there at once, of so many tokens at most, and what each takes over of which prompt."""
    every = taken_of([text.ids[: text.prompt_length - 1] for text in texts], prompts)
    some = [(text, taken) for text, taken in zip(texts, every, strict=True) if taken.length >= SHARED]
    some.sort(key=lambda one: len(one[0].ids))
    for part in together([len(text.ids) for text, _ in some], most):
        yield [text for text, _ in some[part]], [taken for _, taken in some[part]]


class _TextBatch(KeptBatch):
    """Texts that are read behind what they take over, whose last tokens are never fed; none of them goes on."""

    def __init__(self, target: Steppable, texts: Sequence[Unread], taken: Sequence[Taken], where: Where, kept: Kept, chunk: int) -> None:
        order = sorted(range(len(texts)), key=lambda place: len(texts[place].ids) - taken[place].length)
        fed = [text.ids[:-1] for text in texts]
        super().__init__(target, Writing(1), chunk, kept, Rows([order], fed, taken, where))
        self._texts = [texts[place] for place in order]
        longest = max(len(text.ids) for text in texts)
        self._ids = torch.tensor([[*text.ids, *[0] * (longest - len(text.ids))] for text in self._texts])
        self._first = torch.tensor([[text.prompt_length - 1] for text in self._texts])
        self._said = torch.empty(3, len(texts), longest)  # by the position before a reply token

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Take note of what is said of every reply token; no logits, (0, vocabulary), since nothing is chosen by them."""
        rows, columns = self._cache.seen(ids.shape[1])
        filled = self._visible[rows, columns][:, -ids.shape[1] :].cpu()
        places = (filled & (positions.cpu() >= self._first[rows])).nonzero().T
        with Asked(self.model) as head:
            if places.numel():
                head.rows = places[0] * ids.shape[1] + places[1]
            logits = head.among(self._pass(ids, positions, ids.shape[1]))
        if places.numel():
            row, at = places[0] + rows.start, positions.cpu()[places[0], places[1]]
            self._said[:, row, at] = said_of(logits, self._ids[row, at + 1], self._temperature).cpu()
        return logits.new_empty(0, logits.shape[-1])

    def hand_out(self, replies: Sequence[Sequence[int]]) -> None:
        """Hand out the streams of the texts, and what was said of their replies; none was written."""
        for row, text in enumerate(self._texts):
            streams = {boundary: [part[boundary] for part in self._streams[row]] for boundary in self._kept.boundaries}
            self._kept.add(text.ids, self._temperature, self._said[:, row, text.prompt_length - 1 : len(text.ids) - 1], streams)
