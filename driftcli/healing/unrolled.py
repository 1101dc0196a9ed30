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


def forced_chains(
    drafter: SelfFeedingDrafter, ids: Tensor, streams: Mapping[int, Tensor], rows: int, depth: int, chosen: Tensor | None = None
) -> Iterator[Finished]:
    """The chains of some of the first `rows` rows, depth by depth: what the output head reads and the state, (text * chosen, width) each.

    ids: (text, position), of which `rows + depth` are read; streams: by boundary, (text, position, target width); chosen: rows from which
    chains begin, (text, chosen), all of them by default. The first step computes every row, whose keys all chains see.
    """
    texts = len(ids)
    rope, own = drafter.rope(rows + depth - 1), [list[Projected]() for _ in drafter.layers]
    at = torch.arange(rows, device=ids.device).expand(texts, rows)
    state = drafter.fuse({boundary: stream[:, :rows].flatten(0, 1) for boundary, stream in streams.items()})
    for step in range(depth):
        places = (at + step).flatten()
        flow = drafter.begin(drafter.embed(ids.gather(1, at + 1 + step).flatten(), places), state)
        stream = flow.residual
        for number, layer in enumerate(drafter.layers):
            flow = flow if number == 0 else layer.enter(stream)
            own[number].append(layer.project(flow.inputs, places, rope))
            stream = layer.leave(flow.residual, _attended(layer, own[number], at))
        done = drafter.finish(stream)
        if step == 0 and chosen is not None:
            begun = (torch.arange(texts, device=ids.device)[:, None] * rows + chosen).flatten()
            done, at = Finished(done.output[begun], done.state[begun]), chosen
        yield done
        state = done.state


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
