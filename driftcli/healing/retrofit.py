"""Turning a pre-norm EAGLE-3 head into one that feeds back its normed state (EAGLE 3.1) without changing its first guess.

    pre-norm:   state z,             logits = H (g * z / rms(z))
    post-norm:  state c * z / rms(z), logits = H' (c * z / rms(z)),   H' = H diag(g) / c

The final norm gets one gain `c` for all numbers and the output head takes up the old gains, so what is scored is the same to rounding,
whatever the text. What is fed back keeps its direction; its size becomes `c` at every depth, chosen as the mean size of the state that
leaves the first step, so that the second step changes as little as one number can make it. Per-stream norms in front of `fc` (the other
half of EAGLE 3.1) cannot be put in so: they divide each row by its own size, and no matrix behind them undoes that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from driftcli.families.eagle.eagle3 import Eagle3
from driftcli.families.self_feeding import Finished, SelfFeedingDrafter
from driftcli.healing.unrolled import forced_chains
from driftcli.training.streams import Streams

LOOKED_AT = 32  # conversations by which sizes are taken and first guesses compared (chosen by us)


def normed_feedback(drafter: Eagle3, size: float) -> Eagle3:
    """The head that feeds back its normed state at this size, with the same first guess."""
    gain = torch.full_like(drafter.final_gain, size)
    head = (drafter.head.double() * drafter.final_gain.double() / size).to(drafter.head)
    return replace(drafter, feedback="normed", final_gain=gain, head=head, shared_head=False)


def normed_streams(drafter: Eagle3, sizes: Iterable[float]) -> Eagle3:
    """The head with a norm for each stream in front of `fc`, its gain the stream's usual size; the first guess changes somewhat."""
    width = drafter.fusion.weight.shape[1] // len(drafter.boundaries) if drafter.fusion.weight is not None else len(drafter.final_gain)
    gains = tuple(torch.full((width,), size, dtype=drafter.head.dtype, device=drafter.head.device) for size in sizes)
    return replace(drafter, fusion=replace(drafter.fusion, stream_norms=gains))


def state_size(drafter: SelfFeedingDrafter, data: Streams) -> float:
    """Mean size of the state that leaves the first step, on some replies."""
    return _mean_rms(torch.cat([done.state[counted] for done, counted in _first(drafter, data)]))


def stream_sizes(drafter: SelfFeedingDrafter, data: Streams) -> list[float]:
    """Mean size of each stream of the target that the head reads, in its order, on some replies but for the first row of each, which is an
    outlier in many targets.
    """
    batch = data.batch(_some(data), torch.device("cpu"))
    inside = torch.arange(batch.ids.shape[1])[None] < torch.tensor([[len(data.conversations[row].ids)] for row in _some(data)])
    inside[:, 0] = False
    parts = dict(zip(data.boundaries, batch.streams.float().chunk(len(data.boundaries), dim=-1), strict=True))
    return [_mean_rms(parts[boundary][inside]) for boundary in drafter.boundaries]


def first_guesses(drafter: SelfFeedingDrafter, data: Streams) -> Tensor:
    """First guesses on some replies, as draft ids; (anchor,)."""
    return torch.cat([drafter.logits(done.output[counted]).argmax(-1) for done, counted in _first(drafter, data)])


def _some(data: Streams) -> Sequence[int]:
    return range(min(LOOKED_AT, len(data.conversations)))


@torch.no_grad()
def _first(drafter: SelfFeedingDrafter, data: Streams) -> Iterator[tuple[Finished, Tensor]]:
    """The first step on some replies, one text after the other, and which of its rows guess at a token of a reply."""
    for row in _some(data):
        batch = data.batch([row], drafter.head.device)
        rows = batch.ids.shape[1] - 2
        streams = dict(zip(data.boundaries, batch.streams.to(drafter.head.dtype).chunk(len(data.boundaries), dim=-1), strict=True))
        if rows > 0:
            yield next(forced_chains(drafter, batch.ids, streams, rows, 1)), batch.replied[0, 2 : 2 + rows]


def _mean_rms(states: Tensor) -> float:
    return float(states.float().square().mean(-1).sqrt().mean())
