"""From a declaration and its tensors to heads without attention."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from driftcli.domain import Sourced, System
from driftcli.families.feed_forward.declaration import FeedForwardDeclaration
from driftcli.families.feed_forward.drafter import Block, FeedForward, Stage, StateHead, StateStep, TokensHead
from driftcli.families.feed_forward.formats import SPECULATOR
from driftcli.families.layers import Linear
from driftcli.families.unpacking import read_whole
from driftcli.sources.tensors import require_bounded
from driftcli.target.target import Target


def read_feed_forward(d: FeedForwardDeclaration, target: Target, system: System | None = None) -> tuple[FeedForward, dict[str, Sourced]]:
    """The drafter and its record; raises FormatError for tensors that are not finite."""
    like, source = target.head, d.checkpoint.source
    stored = read_whole(d.checkpoint, {name for stage in d.stages for name in stage.values()})
    held = {name: tensor.to(like) for name, tensor in stored.items()}
    require_bounded(f"{source.name} as {like.dtype}", held)
    made = _step if d.format.name == SPECULATOR else _of_blocks
    stages = tuple(made(d, {part: held[name] for part, name in stage.items()}, target) for stage in d.stages)
    assert d.boundary is not None
    drafter = FeedForward(d.boundary, stages, recurrent=d.tied, blind=d.blind, halved=d.halved)
    return drafter, d.record(system)


def _linear(parts: Mapping[str, Tensor], name: str) -> Linear:
    return Linear(parts[f"{name}.weight"], parts.get(f"{name}.bias"))


def _of_blocks(d: FeedForwardDeclaration, parts: Mapping[str, Tensor], target: Target) -> Stage:
    """A head of blocks, which reads tokens too unless it is blind."""
    numbers = sorted({int(part.split(".")[1]) for part in parts if part.startswith("blocks.")})
    blocks = tuple(
        Block(_linear(parts, f"blocks.{n}"), _linear(parts, f"around.{n}") if f"around.{n}.weight" in parts else None) for n in numbers
    )
    head = _linear(parts, "head")
    return StateHead(blocks, head) if d.blind else TokensHead(target.embedding.to(target.head), blocks, head)


def _step(d: FeedForwardDeclaration, parts: Mapping[str, Tensor], _: Target) -> Stage:
    """A step of MLPSpeculator: by the last one the target's state makes up half of its own."""
    state = 0.5 ** (0.5 / len(d.stages))
    token = ((1 - state**2) * d.inner / 2) ** 0.5
    return StateStep(
        _linear(parts, "proj"), parts["emb.weight"], parts["ln.weight"], parts["ln.bias"], _linear(parts, "head"), state, token
    )
