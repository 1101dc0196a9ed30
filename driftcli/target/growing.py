"""Texts that grow together, token by token: a prompt is read behind what it begins with as another does, and one that ended leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

from driftcli.target.beginnings import Taken
from driftcli.target.capture import StreamCapture
from driftcli.target.distributions import said_of
from driftcli.target.recorded import FixedStep, Steppable, recordable
from driftcli.target.roomy_cache import RoomyCache
from driftcli.target.target import Kept, Writing

AT_ONCE = {"cpu": 512}  # tokens of prompts that are read at once on a device: more are no faster there (chosen by us)
ELSEWHERE = 8192
WORTH_RECORDING = 24  # tokens of a reply from which on a recorded step makes up for being recorded, about five steps (chosen by us)


def sees_all(config: PretrainedConfig) -> bool:
    """Whether every layer sees every token before it."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)


@dataclass(frozen=True)
class Rows:
    """The prompts of a batch, by their places among all, in the waves in which they are read; what each of all takes over from which other,
    and where those stand that are read already: in which batch, and in which row of it.
    """

    waves: Sequence[Sequence[int]]
    prompts: Sequence[Sequence[int]]
    taken: Sequence[Taken]
    where: Mapping[int, tuple[GrowingBatch, int]]

    @property
    def places(self) -> list[int]:
        """Its own, row by row."""
        return list(chain.from_iterable(self.waves))


class GrowingBatch:
    """Texts that grow together and end in one column of a cache, where those at work have the first places.

    Columns: what a prompt takes over of another, nothing, then its rest up to the column that is written next. places: of the prompts among
    all; rows: by place in the cache, which of them it is.
    """

    def __init__(self, target: Steppable, most: int, chunk: int, laid: Rows) -> None:
        self.model = target.model
        self.places = laid.places
        self._target, self._laid, self._chunk = target, laid, chunk
        self._prompts = [laid.prompts[place] for place in self.places]
        self._taken = [laid.taken[place] for place in self.places]
        self._end = max(map(len, self._prompts))
        columns = self._end + most - 1
        self.rows = list(range(len(self.places)))
        self._cache = RoomyCache(target.model.config, len(self.rows), columns)
        self._visible = torch.zeros(len(self.rows), columns, dtype=torch.bool, device=target.device)
        self._positions = torch.tensor([[len(ids)] for ids in self._prompts], device=target.device)
        self._records = sees_all(target.model.config) and recordable(target)
        self._fixed: FixedStep | None = None

    def read(self) -> Tensor:
        """Logits (row, vocabulary) behind the prompts, wave after wave; those whose rests are about as long are read together."""
        logits, start = list[Tensor](), 0
        for wave in self._laid.waves:
            rows = range(start, start + len(wave))
            self._take_over(rows)
            logits += [self._read_rows(some) for some in self._groups(rows)]
            start = rows.stop
        self._look(self._end)
        return torch.cat(logits)

    def _take_over(self, rows: range) -> None:
        """What these rows take over, the same of one source at once."""
        taking: dict[Taken, list[int]] = {}
        for row in rows:
            taking.setdefault(self._taken[row], []).append(row)
        for taken, some in taking.items():
            if taken.length:
                self._begin(*self._laid.where[taken.place], taken.length, some)

    def _begin(self, batch: GrowingBatch, source: int, length: int, rows: list[int]) -> None:
        """These rows begin with so many tokens of a row of a batch, which has decoded nothing yet."""
        self._cache.take(batch._cache, source, batch._columns(source, length), rows)
        self._visible[rows, :length] = True

    def _columns(self, row: int, length: int) -> list[slice]:
        """Where the first tokens of a prompt stand."""
        before, rest = self._taken[row].length, self._end - len(self._prompts[row])
        return [slice(0, min(length, before)), slice(rest + before, rest + max(length, before))]

    def _left(self, row: int) -> int:
        """Tokens of a prompt that are left to read."""
        return len(self._prompts[row]) - self._taken[row].length

    def _groups(self, rows: range) -> Iterator[range]:
        """Rows that are read at once: each is padded to the last of them, and no padding reaches into what a row has taken over."""
        most, start, before = AT_ONCE.get(self._target.device.type, ELSEWHERE), rows.start, 0
        for row in rows:
            before = max(before, self._taken[row].length)
            if row > start and (self._left(row) * (row + 1 - start) > most or before + self._left(row) > self._end):
                yield range(start, row)
                start, before = row, self._taken[row].length
        yield range(start, rows.stop)

    def _read_rows(self, rows: range) -> Tensor:
        """Logits (row, vocabulary) behind prompts, whose rests are read behind what they take over."""
        before, device = [self._taken[row].length for row in rows], self._target.device
        rests = [self._prompts[row][count:] for row, count in zip(rows, before, strict=True)]
        size, end = len(rests[-1]), self._end
        ids = torch.tensor([[0] * (size - len(rest)) + list(rest) for rest in rests], device=device)
        pads = torch.tensor([[size - len(rest)] for rest in rests], device=device)
        positions = torch.tensor(before, device=device)[:, None] + (torch.arange(size, device=device) - pads).clamp(min=0)
        self._visible[rows.start : rows.stop, end - size : end] = torch.arange(size, device=device) >= pads
        self._cache.look(slice(rows.start, rows.stop), 0 if any(before) else end - size, end - size)
        for at in range(0, size, self._chunk):
            logits = self._forward(ids[:, at : at + self._chunk], positions[:, at : at + self._chunk])
        return logits

    def _look(self, end: int) -> None:
        """Those at work come next, and see what any of them reaches back to."""
        longest = max(len(self._prompts[row]) for row in self.rows)
        self._cache.look(slice(0, len(self.rows)), 0 if any(self._taken[row].length for row in self.rows) else self._end - longest, end)

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Logits (row, vocabulary) behind the last of ids (row, n), written where the cache looks."""
        return self._pass(ids, positions, 1)[:, -1].to(self._target.device)

    def _pass(self, ids: Tensor, positions: Tensor, asked: int) -> Tensor:
        """Logits (row, asked, vocabulary) behind the last ids."""
        seen = self._cache.seen(ids.shape[1])
        arguments = {"attention_mask": self._visible[seen], "position_ids": positions, "use_cache": True, "logits_to_keep": asked}
        logits: Tensor = self._target.model(ids, **arguments, **self._target.continuing(self._cache)).logits
        return logits

    def without_ended(self, tokens: Tensor, going: Sequence[int]) -> Tensor:
        """The tokens of the places that go on; the last of them take the places of those that ended, but in a recorded step."""
        if self._fixed is not None or len(going) == len(self.rows):
            return tokens
        places = list(range(len(going)))
        free, late = [place for place in places if place not in set(going)], [place for place in going if place >= len(going)]
        for place, source in zip(free, late, strict=True):
            places[place] = source
        self._cache.move(late, free)
        self._visible[free], self._positions[free] = self._visible[late], self._positions[late]
        self.rows = [self.rows[place] for place in places]
        self._look(self._cache.end)
        return tokens[places]

    def step(self, tokens: Tensor, left: int) -> Tensor:
        """Logits (row, vocabulary) behind one more token of each; left: steps to come, this one included."""
        if self._records and self._fixed is None and left >= WORTH_RECORDING:
            self._record(tokens)
        if self._fixed is not None:
            return self._fixed(tokens)
        count = len(tokens)
        self._visible[:count, self._cache.end] = True
        logits = self._forward(tokens[:, None], self._positions[:count])
        self._positions += 1
        return logits

    def chosen(self, number: int, logits: Tensor, tokens: Tensor) -> None:
        """Take note of the tokens (row,) that were chosen by logits (row, vocabulary); number: their place in their replies, from 1."""

    def hand_out(self, replies: Sequence[Sequence[int]]) -> None:
        """Hand out what was kept of the prompts and the replies to them."""

    def _record(self, tokens: Tensor) -> None:
        """Steps are a recorded one from now on, if it gives what an unrecorded one gives."""
        count = len(tokens)
        fixed = FixedStep(self._target, self._cache, self._visible[:count], self._positions[:count])
        self._records = fixed.record(tokens)
        self._fixed = fixed if self._records else None
        if self._fixed is None:
            self._cache.loosen()


class KeptBatch(GrowingBatch):
    """The same, of which `kept` is given the streams and what is said of every reply token; the last token is never fed, and needs none."""

    def __init__(self, target: Steppable, writing: Writing, chunk: int, kept: Kept, laid: Rows) -> None:
        super().__init__(target, writing.most, chunk, laid)
        self._kept, self._temperature = kept, writing.temperature or 1.0
        self._capture = partial(StreamCapture, target.decoder, target.layers, kept.boundaries)
        self._steps = self._capture(writing.most - 1, len(self.rows))
        self._streams: list[list[dict[int, Tensor]]] = [[] for _ in self.rows]  # of each prompt, in parts
        self._said = torch.empty(3, len(self.rows), writing.most)

    def _read_rows(self, rows: range) -> Tensor:
        size = self._left(rows[-1])
        with self._capture(size) as capture:
            logits = super()._read_rows(rows)
        streams = capture.take()
        for place, row in enumerate(rows):
            self._streams[row].append({boundary: stream[place, size - self._left(row) :] for boundary, stream in streams.items()})
        return logits

    def _begin(self, batch: GrowingBatch, source: int, length: int, rows: list[int]) -> None:
        super()._begin(batch, source, length, rows)
        assert isinstance(batch, KeptBatch), "what is read first is kept first"
        for row in rows:
            self._streams[row] = list(_first(batch._streams[source], length))

    def step(self, tokens: Tensor, left: int) -> Tensor:
        """As above, whose streams are kept."""
        self._steps.places = self.rows
        with self._steps:
            return super().step(tokens, left)

    def chosen(self, number: int, logits: Tensor, tokens: Tensor) -> None:
        """Take note of what is said of the tokens."""
        self._said[:, self.rows, number - 1] = said_of(logits, tokens, self._temperature).cpu()

    def hand_out(self, replies: Sequence[Sequence[int]]) -> None:
        """Hand out streams of prompts and replies, and what was said of the replies."""
        steps = self._steps.take()
        for row, (ids, begun, reply) in enumerate(zip(self._prompts, self._streams, replies, strict=True)):
            stepped = [{boundary: stream[row, : len(reply) - 1] for boundary, stream in steps.items()}] if len(reply) > 1 else []
            streams = {boundary: [part[boundary] for part in (*begun, *stepped)] for boundary in self._kept.boundaries}
            self._kept.add([*ids, *reply], self._temperature, self._said[:, row, : len(reply)], streams)


def _first(parts: Sequence[Mapping[int, Tensor]], length: int) -> Iterator[dict[int, Tensor]]:
    """The first positions of streams by boundary, (position, width), that come in parts."""
    for part in parts:
        if length <= 0:
            return
        yield {boundary: stream[:length] for boundary, stream in part.items()}
        length -= len(next(iter(part.values()), ()))
