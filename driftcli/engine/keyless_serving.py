"""An assistant as a server steps it: the target's keys of verified positions are there, and a round adds none of its own.

A server finds those keys in the target's cache; here they are made anew of its streams, two small products a row that a server need not
take, so a round's first step is timed a little long.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from driftcli.engine.attention import by_sequence, sdpa
from driftcli.families.assistant.drafter import Assistant
from driftcli.families.rotary import rope_tables
from driftcli.families.self_feeding import RopeTables


class ServedAssistant:
    """An assistant of one batch; as `ServedDrafter`. rows: the most that it will read."""

    token_offset = 1

    def __init__(self, drafter: Assistant, rows: int) -> None:
        self.boundaries = drafter.read
        self._drafter, self._tables, self._rows = drafter, drafter.tables(rows + 1), 0
        self._turns = {kind: rope_tables(keys.rope_config, rows, drafter.head.device) for kind, keys in drafter.keys.items()}
        self._cache: dict[str, tuple[Tensor, Tensor]] = {}  # a kind's keys and values, (batch, key head, row, size) each
        self._state = torch.empty(0)

    @torch.inference_mode()
    def read(self, tokens: Tensor, streams: Mapping[int, Tensor]) -> Tensor:
        """As the contract; the last token is the anchor, in front of which everything that is seen stands."""
        drafter, (batch, count) = self._drafter, tokens.shape
        new = torch.arange(self._rows, self._rows + count, device=drafter.head.device).repeat(batch)
        for kind, keys in drafter.keys.items():
            turns = RopeTables(self._turns[kind].cos[new], self._turns[kind].sin[new])
            made = keys.turned(streams[keys.boundary].to(drafter.head).flatten(0, 1), turns)
            both = tuple(by_sequence(part, batch) for part in made)
            old = self._cache.get(kind)
            self._cache[kind] = both if old is None else tuple(torch.cat(pair, dim=2) for pair in zip(old, both, strict=True))  # type: ignore[assignment]
        self._rows += count
        return self._step(tokens[:, -1], drafter.fuse({one: streams[one][:, -1] for one in drafter.boundaries}))

    @torch.inference_mode()
    def follow(self, guesses: Tensor) -> Tensor:
        """As the contract."""
        return self._step(guesses, self._state)

    def crop(self, rows: int) -> None:
        """As the contract."""
        self._rows = rows
        self._cache = {kind: (keys[:, :, :rows], values[:, :, :rows]) for kind, (keys, values) in self._cache.items()}

    def repeat(self, size: int) -> None:
        """As the contract."""
        held = self._cache.items()
        self._cache = {kind: (keys.repeat_interleave(size, 0), values.repeat_interleave(size, 0)) for kind, (keys, values) in held}
        self._state = self._state.repeat_interleave(size, dim=0)

    def _step(self, tokens: Tensor, states: Tensor) -> Tensor:
        """Guesses behind tokens (batch,) on states (batch, width)."""
        drafter = self._drafter
        flow = drafter.begin(drafter.embed(tokens.to(states.device)), states)
        turned = torch.full((len(tokens),), self._rows - 1 + (drafter.place == "the anchor's"), device=states.device)
        stream = flow.residual
        for number, (kind, layer) in enumerate(zip(drafter.kinds, drafter.layers, strict=True)):
            flow = layer.enter(stream) if number else flow
            query = layer.project(flow.inputs, turned, self._tables[kind]).query
            lowest = 0 if layer.window is None else max(0, self._rows - layer.window)
            keys, values = (part[:, :, lowest:] for part in self._cache[kind])
            out = sdpa(by_sequence(query, len(tokens)), keys, values, None, layer.scale, layer.sinks)
            stream = layer.leave(flow.residual, out.transpose(1, 2).flatten(1))
        done = drafter.finish(stream)
        self._state = done.state
        return drafter.logits(done.output).argmax(-1)
