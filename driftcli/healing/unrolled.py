"""The forced chains of every row of some texts with their gradients: the step that is measured is the step that is trained.

The engine keeps shares of attention and no gradient; here it is the other way round. Tokens, rows, positions and windows are the engine's:
row `r` holds the token of position `r + 1` and the target's state of position `r`; the chain that begins there sees the target-fed rows
up to `r` and its own. Source: training-time test of EAGLE-3 (arXiv:2503.01840, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from driftcli.families.self_feeding import DrafterLayer, Finished, Projected, SelfFeedingDrafter


class Chains:
    """Chains that begin in some of the first `rows` rows of texts, drafted depth by depth; fewer and fewer of them where `only` says so.

    ids: (text, position), of which `rows + depth` are read; streams: by boundary, (text, position, target width); chosen: rows from which
    chains begin, (text, chosen), all of them by default. The first step computes every row, whose keys all chains see.
    """

    def __init__(
        self, drafter: SelfFeedingDrafter, ids: Tensor, streams: Mapping[int, Tensor], rows: int, depth: int, chosen: Tensor | None = None
    ) -> None:
        self._drafter, self._ids, self._rows, self._chosen, self._done = drafter, ids, rows, chosen, 0
        self._rope, self._own = drafter.rope(rows + depth - 1), [list[Projected]() for _ in drafter.layers]
        self._at = torch.arange(rows, device=ids.device).expand(len(ids), rows)
        self._state = drafter.fuse({boundary: stream[:, :rows].flatten(0, 1) for boundary, stream in streams.items()})

    def step(self) -> Finished:
        """The next depth: what the output head reads and the state, (text * chain, width) each."""
        drafter, places = self._drafter, (self._at + self._done).flatten()
        flow = drafter.begin(drafter.embed(self._ids.gather(1, self._at + 1 + self._done).flatten(), places), self._state)
        stream = flow.residual
        for number, layer in enumerate(drafter.layers):
            flow = flow if number == 0 else layer.enter(stream)
            self._own[number].append(layer.project(flow.inputs, places, self._rope))
            stream = layer.leave(flow.residual, _attended(layer, self._own[number], self._at))
        done = drafter.finish(stream)
        if self._done == 0 and self._chosen is not None:
            done, self._at = Finished(*(part[self._flat(self._chosen)] for part in (done.output, done.state))), self._chosen
        self._state, self._done = done.state, self._done + 1
        return done

    def only(self, places: Tensor) -> None:
        """Go on with some of the chains alone, by their places among those of the last step, (text, chain)."""
        left = self._flat(places)
        self._state, self._at = self._state[left], self._at.gather(1, places)
        for number, steps in enumerate(self._own):
            later = [Projected(*(part[:, left] for part in (step.query, step.key, step.value))) for step in steps[1:]]
            self._own[number] = [steps[0], *later]

    def _flat(self, places: Tensor) -> Tensor:
        """Places among the chains of all texts."""
        return (torch.arange(len(places), device=places.device)[:, None] * self._at.shape[1] + places).flatten()


def forced_chains(
    drafter: SelfFeedingDrafter, ids: Tensor, streams: Mapping[int, Tensor], rows: int, depth: int, chosen: Tensor | None = None
) -> Iterator[Finished]:
    """The steps of `Chains`, all of which go on to the end."""
    chains = Chains(drafter, ids, streams, rows, depth, chosen)
    for _ in range(depth):
        yield chains.step()


def _attended(layer: DrafterLayer, steps: list[Projected], at: Tensor) -> Tensor:
    """Attention of the last of some steps over the first one's rows and each chain's own later ones; (text * chain, head * value size).

    at: the row from which each chain begins, (text, chain).
    """
    texts, groups = len(at), len(steps[-1].query) // len(steps[-1].key)
    query = _apart(steps[-1].query, texts)
    keys = [_apart(step.key, texts).repeat_interleave(groups, dim=1) for step in steps]
    values = [_apart(step.value, texts).repeat_interleave(groups, dim=1) for step in steps]
    rows = keys[0].shape[2]
    scores = (query @ keys[0].transpose(2, 3)).float() * layer.scale
    chain = [(query * key).float().sum(-1, keepdim=True) * layer.scale for key in keys[1:]]
    every = torch.cat([scores.masked_fill(_hidden(layer, at, rows, len(steps))[:, None], -torch.inf), *chain], dim=-1)
    if layer.sinks is not None:
        every = torch.cat([every, layer.sinks.float()[:, None, None].expand(texts, -1, at.shape[1], 1)], dim=-1)
    shares = every.softmax(-1).to(query.dtype)
    out = shares[..., :rows] @ values[0]
    for number, value in enumerate(values[1:]):
        out = out + shares[..., rows + number, None] * value
    return out.transpose(1, 2).flatten(2).flatten(0, 1)


def _apart(packed: Tensor, texts: int) -> Tensor:
    """(head, text * row, size) -> (text, head, row, size)."""
    return torch.unflatten(packed, 1, (texts, -1)).transpose(0, 1)


def _hidden(layer: DrafterLayer, at: Tensor, rows: int, steps: int) -> Tensor:
    """Which of the first step's rows each chain does not see, (text, chain, row); a window is longer than a chain, whose own keys are all
    in it.
    """
    row, at = torch.arange(rows, device=at.device), at[..., None]
    if layer.window is None:
        return row > at
    assert layer.window >= steps, "a chain longer than the window"
    back = 0 if layer.from_anchor else steps - 1
    return (row > at) | (row < at + back - layer.window + 1)
