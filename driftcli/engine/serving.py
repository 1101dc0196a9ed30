"""Target and drafter as a server steps them: with caches, without measuring anything.

A round of speculative decoding: the drafter reads the newly verified tokens with the target's streams, which are rows for good, and
guesses; each further guess is a step on its own state, a row of this round alone; the target reads them all in one step; what it refuses
is taken out of its cache. All sequences of a batch are of one length, which is enough to time steps; decoding takes a batch of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from driftcli.engine.attention import by_sequence, sdpa
from driftcli.engine.block_serving import ServedBlock
from driftcli.engine.keyless_serving import ServedAssistant
from driftcli.engine.lookup_serving import ServedLookup
from driftcli.engine.stage_serving import ServedStages
from driftcli.errors import RunError
from driftcli.families.assistant.drafter import Assistant
from driftcli.families.block.drafter import Block
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.families.feed_forward.drafter import FeedForward
from driftcli.families.lookup.lookup import Lookup
from driftcli.families.mtp.head import MtpModules
from driftcli.families.self_feeding import DrafterLayer, Projected, SelfFeedingDrafter
from driftcli.target.capture import StreamCapture
from driftcli.target.in_process import CHUNK, last_rows
from driftcli.target.language_model import LanguageModel

CROPPABLE = {"full_attention", "sliding_attention", "chunked_attention"}  # layers whose cache loses its last tokens by being cut


class LmCache:
    """A language model that reads on from its cache."""

    def __init__(self, lm: LanguageModel) -> None:
        if kinds := uncut_layers(lm):
            raise RunError(
                f"{lm.source.name}: layers of type {', '.join(sorted(kinds))} cannot take read tokens back, "
                "expected attention in every layer; give the costs of its steps by --costs"
            )
        self.lm = lm
        self.length = 0
        self._cache = DynamicCache()  # without a config: its sliding layers keep every row, so that any can be taken back

    def read(self, tokens: Tensor, asked: int) -> Tensor:
        """Logits of the last `asked` tokens, (batch, asked, vocabulary); tokens: (batch, n), more than a chunk where one is asked."""
        assert asked == 1 or asked <= tokens.shape[1] <= CHUNK
        for chunk in torch.split(tokens, CHUNK, dim=1):
            asked_for = last_rows(self.lm, chunk.shape[1], min(asked, chunk.shape[1]))
            out = self.lm.model(chunk, use_cache=True, logits_to_keep=asked_for, **self.lm.continuing(self._cache))
        self.length += tokens.shape[1]
        logits: Tensor = out.logits[:, -asked:]
        return logits

    def crop(self, length: int) -> None:
        """Take back all but the first `length` tokens."""
        assert length <= self.length
        if length < self.length:  # transformers before 5.24 took 0 for all
            self._cache.crop(length - self.length)
        self.length = length

    def repeat(self, size: int) -> None:
        """One sequence becomes a batch of `size` alike."""
        self._cache.batch_repeat_interleave(size)


def uncut_layers(lm: LanguageModel) -> set[str]:
    """Types of layers whose cache cannot take read tokens back."""
    return set(getattr(lm.config, "layer_types", None) or ()) - CROPPABLE


@dataclass(frozen=True, slots=True)
class Verified:
    """A target step: its first choice behind each asked token (batch, asked), and its streams by boundary (batch, n, width)."""

    choices: Tensor
    streams: Mapping[int, Tensor]


class ServedTarget:
    """The target of one batch; boundaries: of the streams that every step hands on."""

    def __init__(self, target: LanguageModel, boundaries: Sequence[int] = ()) -> None:
        self._cached, self._boundaries = LmCache(target), boundaries

    @torch.inference_mode()
    def read(self, tokens: Tensor, asked: int) -> Verified:
        """One step over tokens (batch, n) behind those in the cache."""
        lm = self._cached.lm
        with StreamCapture(lm.decoder, lm.layers, self._boundaries, tokens.shape[1]) as capture:
            choices = self._cached.read(tokens, asked).argmax(-1)
        return Verified(choices, capture.take())

    def crop(self, length: int) -> None:
        """Take back all but the first `length` tokens."""
        self._cached.crop(length)

    def repeat(self, size: int) -> None:
        """One sequence becomes a batch of `size` alike."""
        self._cached.repeat(size)


class ServedDrafter(Protocol):
    """A drafter of one batch with its cache.

    boundaries: of the target's streams that it reads. token_offset: its row `i` holds token `i + token_offset`.
    """

    boundaries: tuple[int, ...]
    token_offset: int

    def read(self, tokens: Tensor, streams: Mapping[int, Tensor]) -> Tensor:
        """The first guesses of a round (batch,), as target ids, behind newly verified tokens (batch, n), whose rows stay.

        streams: by boundary (batch, n, width), of the positions of these rows. The rows of the round before are dropped.
        """

    def follow(self, guesses: Tensor) -> Tensor:
        """The next guesses of the round (batch,) behind the last ones (batch,)."""

    def crop(self, rows: int) -> None:
        """Take back all but the first `rows` rows; what comes next is a read."""

    def repeat(self, size: int) -> None:
        """One sequence becomes a batch of `size` alike."""


def serve(
    drafter: SelfFeedingDrafter | MtpModules | Block | Assistant | FeedForward | CausalLm | Lookup, rows: int, drafts: int
) -> ServedDrafter:
    """A drafter with an empty cache; rows: the most that it will hold, a round's own included; drafts: tokens of a round.

    RunError for one module a depth.
    """
    if isinstance(drafter, MtpModules):
        raise RunError("a head with one module a depth is not stepped here yet, expected one that is run again; give --costs of its server")
    if isinstance(drafter, Block):
        return ServedBlock(drafter, rows, drafts)
    if isinstance(drafter, Assistant):
        return ServedAssistant(drafter, rows)
    if isinstance(drafter, FeedForward):
        return ServedStages(drafter)
    if isinstance(drafter, Lookup):
        return ServedLookup(drafter, drafts)
    return ServedLm(drafter, drafts) if isinstance(drafter, CausalLm) else ServedHead(drafter, rows, drafts)


class ServedLm:
    """A drafting language model of one batch. A parallel one's whole round is guessed by its first step."""

    boundaries: tuple[int, ...] = ()
    token_offset = 0

    def __init__(self, drafter: CausalLm, drafts: int) -> None:
        self._cached, self._tokens, self._rows = LmCache(drafter.lm), drafter.tokens, 0
        self._mask, self._masks, self._place = drafter.mask, 0 if drafter.mask is None else drafts - 1, 0
        self._guessed = torch.empty(0)  # of a parallel one's round, (batch, guess)

    @torch.inference_mode()
    def read(self, tokens: Tensor, streams: Mapping[int, Tensor]) -> Tensor:
        """As the contract; it reads no streams, and what it accepted of its own round it reads again."""
        self._cached.crop(self._rows)
        self._rows += tokens.shape[1]
        own = self._own(tokens)
        if self._mask is None:
            return self._guess(own)[:, 0]
        if own.shape[1] > 1:
            self._cached.read(own[:, :-1], 1)
        self._place, self._guessed = 0, self._guess(F.pad(own[:, -1:], (0, self._masks), value=self._mask), 1 + self._masks)
        return self._guessed[:, 0]

    @torch.inference_mode()
    def follow(self, guesses: Tensor) -> Tensor:
        """As the contract."""
        if self._mask is None:
            return self._guess(self._own(guesses[:, None]))[:, 0]
        self._place = min(self._place + 1, self._masks)
        return self._guessed[:, self._place]

    def crop(self, rows: int) -> None:
        """As the contract."""
        self._cached.crop(rows)
        self._rows = rows

    def repeat(self, size: int) -> None:
        """As the contract."""
        self._cached.repeat(size)

    def _own(self, tokens: Tensor) -> Tensor:
        """Target ids as the drafter's own."""
        return self._tokens.fed[tokens.to(self._cached.lm.device)]

    def _guess(self, own: Tensor, asked: int = 1) -> Tensor:
        """First choices behind the last `asked` of its own tokens, as target ids; (batch, asked)."""
        return self._tokens.vocabulary.to_target[self._tokens.scores(self._cached.read(own, asked)).argmax(-1)]


class ServedHead:
    """A drafter that feeds on its own state, or a parallel one, of one batch. RoPE whose frequencies depend on the length takes `rows` for
    it. A parallel one's whole round is guessed by its first step, and the steps behind it hand on what is there.
    """

    token_offset = 1

    def __init__(self, drafter: SelfFeedingDrafter, rows: int, drafts: int) -> None:
        self.boundaries = drafter.boundaries
        self._drafter, self._rope = drafter, drafter.rope(rows)
        self._room, self._rows, self._ahead = rows, 0, 0
        self._mask, self._masks = drafter.mask, 0 if drafter.mask is None else drafts - 1
        self._guessed = torch.empty(0)  # what a step guessed, (batch, guess)
        self._cache: list[tuple[Tensor, Tensor]] = []  # a layer's keys and values, (batch, key head, room, size) each
        self._state: Tensor | None = None

    @torch.inference_mode()
    def read(self, tokens: Tensor, streams: Mapping[int, Tensor]) -> Tensor:
        """As the contract."""
        states = self._drafter.fuse({boundary: stream.flatten(0, 1) for boundary, stream in streams.items()})
        start, self._ahead = self._rows, 0
        self._rows += tokens.shape[1]
        if self._mask is not None and self._masks:
            (batch, count), state = tokens.shape, self._mask.state
            tokens = F.pad(tokens, (0, self._masks), value=self._mask.token)
            masks = state.expand(batch, self._masks, -1)
            states = torch.cat([states.view(batch, count, -1), masks], dim=1).flatten(0, 1)
        self._guessed = self._step(tokens, states, start)
        return self._guessed[:, 0]

    @torch.inference_mode()
    def follow(self, guesses: Tensor) -> Tensor:
        """As the contract."""
        assert self._state is not None
        self._ahead += 1
        if self._mask is not None:
            return self._guessed[:, min(self._ahead, self._masks)]
        return self._step(guesses[:, None], self._state, self._rows + self._ahead - 1)[:, 0]

    def crop(self, rows: int) -> None:
        """As the contract."""
        self._rows = rows

    def repeat(self, size: int) -> None:
        """As the contract."""
        self._cache = [(keys.repeat_interleave(size, dim=0), values.repeat_interleave(size, dim=0)) for keys, values in self._cache]
        self._state = None if self._state is None else self._state.repeat_interleave(size, dim=0)

    def _step(self, tokens: Tensor, states: Tensor, start: int) -> Tensor:
        """Guesses (batch, guess) behind the last tokens (batch, n) at rows from `start`, and behind masks; states: (batch * n, width)."""
        (batch, count), drafter = tokens.shape, self._drafter
        assert start + count <= self._room
        rows = torch.arange(start, start + count, device=states.device).repeat(batch)
        flow = drafter.begin(drafter.embed(tokens.to(states.device).flatten(), rows), states)
        stream = flow.residual
        for number, layer in enumerate(drafter.layers):
            flow = flow if number == 0 else layer.enter(stream)
            step = layer.project(flow.inputs, rows, self._rope)
            stream = layer.leave(flow.residual, self._attend(number, layer, step, start, batch))
        done = drafter.finish(stream.view(batch, count, -1)[:, -1 - self._masks :].flatten(0, 1))
        self._state = done.state
        return drafter.to_target(drafter.logits(done.output).argmax(-1)).view(batch, -1)

    def _attend(self, number: int, layer: DrafterLayer, step: Projected, start: int, batch: int) -> Tensor:
        """Attention output (batch * n, head * value size) of new rows, whose keys are cached first."""
        query, key, value = (by_sequence(part, batch) for part in (step.query, step.key, step.value))
        if number == len(self._cache):
            self._cache.append((self._empty(key), self._empty(value)))
        (keys, values), end = self._cache[number], start + key.shape[2]
        keys[:, :, start:end], values[:, :, start:end] = key, value
        lowest, seen = self._sight(layer, start, end, key.device)
        out = sdpa(query, keys[:, :, lowest:end], values[:, :, lowest:end], seen, layer.scale, layer.sinks)
        return out.transpose(1, 2).flatten(2).flatten(0, 1)

    def _empty(self, like: Tensor) -> Tensor:
        return like.new_empty(*like.shape[:2], self._room, like.shape[3])

    def _sight(self, layer: DrafterLayer, start: int, end: int, device: torch.device) -> tuple[int, Tensor | None]:
        """The lowest row that any of the rows `start .. end - 1` sees, and which of those from there each one does; none for all."""
        first = min(start, self._rows - 1) if layer.from_anchor else start
        lowest = 0 if layer.window is None else max(0, first - layer.window + 1)
        if end - start == 1:
            return lowest, None
        keys, queries = torch.arange(lowest, end, device=device), torch.arange(start, end, device=device)[:, None]
        seen = keys <= queries
        return lowest, seen if layer.window is None else seen & (keys > queries - layer.window)
