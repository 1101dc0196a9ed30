"""Replies of a batch, token by token: what prompts begin with alike is read once, the rest by its length, and a reply that ended leaves.

`generate` of transformers pads every prompt to the longest, copies its cache at every step, and decodes ended replies on to the last one's
end; the tokens are the same. Models that need more at a step than tokens, positions and keys are left to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from itertools import chain

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from driftcli.target.beginnings import Beginning, beginnings, waves
from driftcli.target.capture import StreamCapture
from driftcli.target.distributions import said_of
from driftcli.target.heads import heads_of
from driftcli.target.recorded import FixedStep, Steppable, recordable
from driftcli.target.roomy_cache import RoomyCache
from driftcli.target.target import Kept, Writing

AT_ONCE = {"cpu": 512}  # tokens of prompts that are read at once on a device: more are no faster there (chosen by us)
ELSEWHERE = 8192
SLACK = {"cpu": 32}  # tokens that are read as fast as a further pass takes, at least (chosen by us)
A_STEP = 1 << 22  # bytes that a step on a CPU might read while it does all else, whatever its rows (chosen by us)
KEPT = 1 << 30  # bytes of streams that are kept of texts while they are written, at most (chosen by us)
WORTH_RECORDING = 24  # tokens of a reply from which on a recorded step makes up for being recorded, about five steps (chosen by us)
STEADY_ROPE = {"default", "linear", "llama3", "yarn", "proportional"}  # frequencies that no text's length changes
OWN_STEP = ("prepare_inputs_for_generation", "_update_model_kwargs_for_generation", "_prepare_position_ids_for_generation", "generate")


def decodable(model: PreTrainedModel) -> bool:
    """Whether tokens, positions and keys are all that a step of the model needs, and whether they mean the same in any company."""
    kind, config = type(model), model.config
    if not kind.__module__.startswith("transformers.") or config is not config.get_text_config() or getattr(kind, "_is_stateful", False):
        return False
    if any(getattr(kind, name, None) is not getattr(GenerationMixin, name, None) for name in OWN_STEP):
        return False
    known = {"position_ids", "attention_mask", "logits_to_keep"} <= signature(kind.forward).parameters.keys()
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in DynamicCache(config=config).layers)
    return known and plain and "chunked_attention" not in (getattr(config, "layer_types", None) or ()) and _steady(config)


def _steady(config: PretrainedConfig) -> bool:
    """Whether no rotation of positions follows from the longest text of a batch."""
    rope = getattr(config, "rope_parameters", None) or {}
    each = [one for one in rope.values() if isinstance(one, dict)] or [rope]
    return {one.get("rope_type", "default") for one in each} <= STEADY_ROPE


def roomy_cache(model: PreTrainedModel, rows: int, columns: int) -> RoomyCache | None:
    """Room for all keys and values of so many texts, so that none is ever copied; None for a model that does not take it."""
    return RoomyCache(model.config, rows, columns) if reads_once(model) else None


def reads_once(model: PreTrainedModel) -> bool:
    """Whether what several texts begin with can be read once for all of them."""
    return decodable(model) and _sees_all(model.config)


def _sees_all(config: PretrainedConfig) -> bool:
    """Whether every layer sees every token before it."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)


@dataclass(frozen=True)
class Choice:
    """How a token is chosen of logits. temperature: greedily at 0; rows: of the batch as it began, each of which draws at every step, so
    that what one draws depends on no reply's end.
    """

    temperature: float
    rows: int

    def of(self, logits: Tensor, slots: Sequence[int]) -> Tensor:
        """Tokens (row,) of logits (row, vocabulary), of the replies that began in `slots`."""
        if not self.temperature:
            return logits.argmax(-1)
        whole = torch.ones(self.rows, logits.shape[-1], device=logits.device)
        whole[list(slots)] = (logits.float() / self.temperature).softmax(-1)
        return torch.multinomial(whole, num_samples=1)[list(slots), 0]


@torch.inference_mode()
def decoded(
    target: Steppable, prompts: Sequence[Sequence[int]], writing: Writing, ends: Sequence[int | None], chunk: int
) -> list[list[int]]:
    """The reply to each prompt, up to its first end token, that included. chunk: tokens of one prompt that are read at once, at most."""
    order = sorted(range(len(prompts)), key=lambda number: (len(prompts[number]), number))
    found = [list[int]() for _ in prompts]
    whole = writing.temperature or target.device.type != "cpu"  # what is drawn is drawn in one batch
    parts = [slice(None)] if whole else list(neighbours([len(prompts[number]) for number in order], writing.most, *_bytes(target.model)))
    kept = writing.kept if writing.kept is not None and _keeps(target, prompts, writing.most, writing.kept) else None
    make = partial(_Batch, target, writing.most, chunk) if kept is None else partial(_KeptBatch, target, writing, chunk, kept)
    waiting = deque(_read(target, [prompts[number] for number in order], parts, make))
    for part in range(len(waiting)):
        batch, logits = waiting.popleft()
        say = None if writing.say is None else partial(_said, writing.say, part * writing.most, len(parts))
        slots = [order[place] for place in batch.places]
        replies = [found[slot] for slot in slots]
        _decode(batch, logits, replies, slots, replace(writing, say=say), ends)
        batch.hand_out(replies)
    return found


def _read(
    target: Steppable, prompts: Sequence[Sequence[int]], parts: Sequence[slice], make: Callable[[_Rows], _Batch]
) -> Iterator[tuple[_Batch, Tensor]]:
    """A batch of each part, and logits (row, vocabulary) behind its prompts; a prompt may begin with what an earlier part has read."""
    shares, where = _sees_all(target.model.config), dict[int, tuple[_Batch, int]]()
    begun = beginnings(prompts, SLACK.get(target.device.type, ELSEWHERE)) if shares else [None] * len(prompts)
    for part in parts:
        read_by = waves(prompts, begun, range(*part.indices(len(prompts))))
        batch = make(_Rows(read_by, prompts, begun, where))
        where |= {place: (batch, row) for row, place in enumerate(batch.places)}
        yield batch, batch.read()


def keepable(model: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether what a model computes as it writes is what one pass over the text gives, to the rounding of sums in another order, and kept.

    In half precision rounding is coarser, and a run that is resumed, which reads what the first one wrote, would not give its rows. On a
    GPU reading takes little beside writing, whose recorded steps call no hook. A model whose layers share keys leaves rows out of them
    whose logits nobody asked for (Gemma 4).
    """
    return device.type == "cpu" and dtype == torch.float32 and decodable(model) and not getattr(model.config, "num_kv_shared_layers", None)


def kept_bytes(tokens: int, boundaries: int, width: int) -> int:
    """What the streams of so many tokens take that are kept."""
    return 4 * tokens * boundaries * width


def kept_tokens(model: PreTrainedModel, device: torch.device, dtype: torch.dtype, boundaries: int) -> int:
    """How many tokens are kept of texts that are written together, each as if as long as the longest; more are not kept at all."""
    return KEPT // kept_bytes(1, max(1, boundaries), int(model.config.hidden_size)) if keepable(model, device, dtype) else 0


def _keeps(target: Steppable, prompts: Sequence[Sequence[int]], most: int, kept: Kept) -> bool:
    """Whether what these texts' passes compute is kept."""
    tokens = len(prompts) * (max(map(len, prompts)) + most)
    size = kept_bytes(tokens, len(kept.boundaries), int(target.model.config.hidden_size))
    return keepable(target.model, target.device, target.model.dtype) and kept.admits(size)


def a_step(target: Steppable, size: int, length: int, times: int = 8) -> Callable[[], object]:
    """A decoding step of so many replies behind texts of so many tokens, to be taken a few times, as most steps of a long reply are."""
    tokens = torch.zeros(size, dtype=torch.long, device=target.device)
    with torch.inference_mode():
        ((batch, _),) = _read(target, [[0] * length] * size, [slice(None)], partial(_Batch, target, times + 1, length))
    return torch.inference_mode()(lambda: batch.step(tokens, WORTH_RECORDING))


def _said(say: Callable[[int], None], before: int, parts: int, number: int) -> None:
    """Tell how many tokens each reply has, as if those of all parts grew together."""
    say((before + number) // parts)


def _decode(
    batch: _Batch, logits: Tensor, replies: Sequence[list[int]], order: Sequence[int], writing: Writing, ends: Sequence[int | None]
) -> None:
    """Add tokens to the replies of a batch until all have ended. logits: behind its prompts; order: the slots that draw for them."""
    choice = Choice(writing.temperature, len(order))
    with getattr(batch.model, "_optimize_model_for_decode", nullcontext)():  # of mixtures of experts, as `generate` does it
        for number in range(1, writing.most + 1):
            tokens = choice.of(logits, [order[row] for row in batch.rows])
            batch.chosen(number, logits, tokens)
            going = _noted(tokens.tolist(), [replies[row] for row in batch.rows], ends)
            if writing.say is not None:
                writing.say(number)
            if number == writing.most or not going:
                return
            logits = batch.step(batch.without_ended(tokens, going), writing.most - number)


def _bytes(model: PreTrainedModel) -> tuple[int, int]:
    """What a step of a model reads of its weights, roughly, and of a text's token in its cache."""
    size = model.dtype.itemsize
    return sum(one.numel() for one in model.parameters()) * size, 2 * size * sum(one.keys * one.size for one in heads_of(model.config))


def neighbours(lengths: Sequence[int], most: int, weights: int, token: int) -> list[slice]:
    """Prompts, by ascending length, parted so that the least is read in a step of all: weights once a part, and a part's keys as if each of
    its texts were its longest.

    most: tokens of a reply; weights: bytes; token: bytes of a text's token.
    """
    best, begins = [0.0], [0]
    for end in range(1, len(lengths) + 1):
        each = [best[begin] + weights + A_STEP + (end - begin) * (lengths[end - 1] + most / 2) * token for begin in range(end)]
        begins.append(min(range(end), key=each.__getitem__))
        best.append(each[begins[-1]])
    found, end = [], len(lengths)
    while end:
        found.append(slice(begins[end], end))
        end = begins[end]
    return found[::-1]


def _noted(tokens: Sequence[int], replies: Sequence[list[int]], ends: Sequence[int | None]) -> list[int]:
    """Places of the replies that go on behind these tokens, which are added to them; one that ended before takes no more."""
    open_ones = [place for place, reply in enumerate(replies) if not reply or reply[-1] not in ends]
    for place in open_ones:
        replies[place].append(tokens[place])
    return [place for place in open_ones if tokens[place] not in ends]


@dataclass(frozen=True)
class _Rows:
    """The prompts of a batch, by their places among all, in the waves in which they are read; what each begins with that is read already,
    and where each that is read stands.
    """

    waves: Sequence[Sequence[int]]
    prompts: Sequence[Sequence[int]]
    begun: Sequence[Beginning | None]
    where: Mapping[int, tuple[_Batch, int]]


class _Batch:
    """Texts that grow together and end in one column of a cache, where those at work have the first places.

    Columns: what a prompt takes over of another, nothing, then its rest up to the column that is written next. places: of the prompts among
    all; rows: by place in the cache, which of them it is.
    """

    def __init__(self, target: Steppable, most: int, chunk: int, laid: _Rows) -> None:
        self.model = target.model
        self.places = list(chain.from_iterable(laid.waves))
        self._target, self._laid, self._chunk = target, laid, chunk
        self._prompts = [laid.prompts[place] for place in self.places]
        self._begun = [laid.begun[place] for place in self.places]
        self._end = max(map(len, self._prompts))
        columns, sees_all = self._end + most - 1, _sees_all(target.model.config)
        self.rows = list(range(len(self.places)))
        self._cache = RoomyCache(target.model.config, len(self.rows), columns)
        self._visible = torch.zeros(len(self.rows), columns, dtype=torch.bool, device=target.device)
        self._positions = torch.tensor([[len(ids)] for ids in self._prompts], device=target.device)
        self._records = sees_all and recordable(target)
        self._fixed: FixedStep | None = None

    def _before(self, row: int) -> int:
        """Tokens of a prompt that are taken over."""
        beginning = self._begun[row]
        return 0 if beginning is None else beginning.length

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
        """The beginnings of these rows, those of one source at once."""
        by_source: dict[Beginning, list[int]] = {}
        for row in rows:
            if (beginning := self._begun[row]) is not None:
                by_source.setdefault(beginning, []).append(row)
        for beginning, some in by_source.items():
            batch, source = self._laid.where.get(beginning.place) or (self, self.places.index(beginning.place))
            self._begin(batch, source, beginning.length, some)

    def _begin(self, batch: _Batch, source: int, length: int, rows: list[int]) -> None:
        """These rows begin with so many tokens of a row of a batch, which has decoded nothing yet."""
        self._cache.take(batch._cache, source, batch._columns(source, length), rows)
        self._visible[rows, :length] = True

    def _columns(self, row: int, length: int) -> list[slice]:
        """Where the first tokens of a prompt stand."""
        before, ids = self._before(row), self._prompts[row]
        rest = self._end - len(ids)
        return [slice(0, min(length, before)), slice(rest + before, rest + max(length, before))]

    def _groups(self, rows: range) -> Iterator[range]:
        """Rows that are read at once: each is padded to the longest rest of them, which must not reach into what another takes over."""
        most, group = AT_ONCE.get(self._target.device.type, ELSEWHERE), range(rows.start, rows.start)
        for row in rows:
            wider = range(group.start, row + 1)
            size = max(len(self._prompts[one]) - self._before(one) for one in wider)
            if group and (size * len(wider) > most or size + max(map(self._before, wider)) > self._end):
                yield group
                group = range(row, row)
            group = range(group.start, row + 1)
        yield group

    def _read_rows(self, rows: range) -> Tensor:
        """Logits (row, vocabulary) behind prompts, whose rests are read behind what they take over."""
        before, device = [self._before(row) for row in rows], self._target.device
        rests = [self._prompts[row][count:] for row, count in zip(rows, before, strict=True)]
        size, end = max(map(len, rests)), self._end
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
        self._cache.look(slice(0, len(self.rows)), 0 if any(map(self._before, self.rows)) else self._end - longest, end)

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Logits (row, vocabulary) behind the last of ids (row, n), written where the cache looks."""
        seen = self._cache.seen(ids.shape[1])
        arguments = {"attention_mask": self._visible[seen], "position_ids": positions, "use_cache": True, "logits_to_keep": 1}
        logits: Tensor = self._target.model(ids, **arguments, **self._target.continuing(self._cache)).logits[:, -1]
        return logits.to(self._target.device)

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


class _KeptBatch(_Batch):
    """The same, of which `kept` is given the streams and what is said of every reply token; the last token is never fed, and needs none."""

    def __init__(self, target: Steppable, writing: Writing, chunk: int, kept: Kept, laid: _Rows) -> None:
        super().__init__(target, writing.most, chunk, laid)
        self._kept, self._temperature = kept, writing.temperature or 1.0
        self._capture = partial(StreamCapture, target.decoder, target.layers, kept.boundaries)
        self._steps = self._capture(writing.most - 1, len(self.rows))
        self._streams: list[list[dict[int, Tensor]]] = [[] for _ in self.rows]  # of each prompt, in parts
        self._said = torch.empty(3, len(self.rows), writing.most)

    def _read_rows(self, rows: range) -> Tensor:
        rests = [len(self._prompts[row]) - self._before(row) for row in rows]
        with self._capture(max(rests)) as capture:
            logits = super()._read_rows(rows)
        streams = capture.take()
        for place, (row, rest) in enumerate(zip(rows, rests, strict=True)):
            self._streams[row].append({boundary: stream[place, max(rests) - rest :] for boundary, stream in streams.items()})
        return logits

    def _begin(self, batch: _Batch, source: int, length: int, rows: list[int]) -> None:
        super()._begin(batch, source, length, rows)
        assert isinstance(batch, _KeptBatch), "all parts of what is written are kept, or none"
        for row in rows:
            self._streams[row] = list(_first(batch._streams[source], length))

    def step(self, tokens: Tensor, left: int) -> Tensor:
        self._steps.places = self.rows
        with self._steps:
            return super().step(tokens, left)

    def chosen(self, number: int, logits: Tensor, tokens: Tensor) -> None:
        self._said[:, self.rows, number - 1] = said_of(logits, tokens, self._temperature).cpu()

    def hand_out(self, replies: Sequence[Sequence[int]]) -> None:
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


def common(texts: Sequence[Sequence[int]]) -> int:
    """Tokens that all texts begin with."""
    first = min(texts, key=len)
    return next((at for at in range(len(first)) if any(ids[at] != first[at] for ids in texts)), len(first))
