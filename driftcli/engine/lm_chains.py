"""Chains of a causal-LM drafter: one teacher-forced forward gives every depth of the forced feed, which is also its own control.

Attention is measured through transformers' `AttentionInterface`: while a `Measurement` is active the model's attention runs here, block
by block, and leaves a reduction a layer behind. Free chains run over the same cache with a 4D mask: the new keys of all anchors lie side
by side, and each query sees only its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.masking_utils import eager_mask

from driftcli.conditions import DraftSettings
from driftcli.engine.attention import BLOCK, MASKED, Masses, Weights, label_columns, reduce, tail_keys, tail_length
from driftcli.engine.drafted import Drafted, Guesses, Queries
from driftcli.engine.packing import Packing
from driftcli.engine.trajectories import Trajectory
from driftcli.errors import RunError
from driftcli.families.causal_lm.drafter import CausalLm

MEASURED = "driftcli_measured"


@dataclass
class Measurement:
    """What to reduce in the running forward: key columns, last keys of the asked queries, how many keys are shared rows, and the first
    query asked; `layers` fills up.
    """

    columns: Tensor
    tail: Tensor
    rows: int
    first: int
    layers: list[Masses] = field(default_factory=list)


_ACTIVE: ContextVar[Measurement] = ContextVar("measurement")


def measured_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float, **options: object
) -> tuple[Tensor, None]:
    """Attention as transformers' eager path computes it, reduced on the way; (1, head, query, size) -> (1, query, head, size)."""
    if options.get("s_aux") is not None:
        raise RunError(f"{type(module).__name__} has learned attention sinks, which are not measured yet; use a drafter without them")
    active, softcap = _ACTIVE.get(), options.get("softcap")
    columns, tail = active.columns.to(query.device), active.tail.to(query.device)
    groups = query.shape[1] // key.shape[1]
    keys, values = key[0].repeat_interleave(groups, dim=0), value[0].repeat_interleave(groups, dim=0)
    size = max(1, BLOCK // (query.shape[1] * key.shape[2]))
    outputs, parts = [], []
    for start in range(0, query.shape[2], size):
        block = slice(start, min(start + size, query.shape[2]))
        scores = (query[0, :, block] @ keys.transpose(1, 2)).float() * scaling
        if isinstance(softcap, float):
            scores = torch.tanh(scores / softcap) * softcap
        if attention_mask is not None:
            scores = (scores + attention_mask[0, :, block, : keys.shape[1]]).clamp(min=MASKED)
        weights = Weights.of(scores)
        outputs.append((weights.raw / weights.total[..., None]).to(query.dtype) @ values)
        skip = max(0, active.first - block.start)
        if skip < block.stop - block.start:
            asked = slice(max(0, block.start - active.first), block.stop - active.first)
            some = Weights(*(part[:, skip:] for part in (weights.raw, weights.total, weights.entropy, weights.divisor)))
            parts.append(reduce(some, some.raw @ columns, tail[asked], active.rows))
    active.layers.append(Masses.joined(parts, dim=2).to(active.tail.device))
    return torch.cat(outputs, dim=1).transpose(0, 1)[None], None


AttentionInterface.register(MEASURED, measured_attention)
AttentionMaskInterface.register(MEASURED, eager_mask)


@contextmanager
def measuring(drafter: CausalLm, measurement: Measurement) -> Iterator[Measurement]:
    """The drafter's attention is measured inside this context; its own implementation is put back after it."""
    model = drafter.lm.model
    before = model.config._attn_implementation
    model.set_attn_implementation(MEASURED)
    token = _ACTIVE.set(measurement)
    try:
        yield measurement
    finally:
        _ACTIVE.reset(token)
        model.set_attn_implementation(before)


@torch.inference_mode()
def draft_lm_chains(
    drafter: CausalLm, trajectory: Trajectory, settings: DraftSettings, horizon: int, *, free: bool, to_end: bool = False
) -> Drafted:
    """Every anchor's chains of a causal-LM drafter; as `draft_chains`, with the forced feed taken from the fresh one."""
    ids = trajectory.ids.to(drafter.lm.device)
    rows, first, n_anchors = len(ids) - 1, trajectory.prompt_length, trajectory.n_anchors(horizon)
    assert (n_anchors > 0 or to_end) and settings.depth <= horizon and settings.window is None
    labels, cache = trajectory.labels.to(ids.device)[:rows], DynamicCache()
    asked = torch.arange(first, rows, device=ids.device)
    tail = tail_keys(asked, torch.empty(len(asked), 0, dtype=torch.long, device=ids.device), tail_length(settings.depth))
    with measuring(drafter, Measurement(label_columns(labels, 0), tail, rows, first)) as seen:
        out = drafter.lm.model(
            drafter.tokens.fed[ids[None, :rows]], use_cache=True, logits_to_keep=rows - first, **drafter.lm.continuing(cache)
        )
    fresh = Queries(_guess(drafter, out.logits[0] / trajectory.temperature, ids[first + 1 :]), Masses.joined(seen.layers, dim=0))
    places = torch.arange(n_anchors, device=ids.device)
    forced = [fresh.pick(places + depth) for depth in range(settings.depth)]
    whole = drafter.window is None or rows + settings.depth <= drafter.window
    behind = _Behind(drafter, ids, labels, cache, trajectory.temperature)
    chain = _free(behind, forced[0], first + places, settings.depth) if free and whole and n_anchors else []
    every, anchors = (Packing((count,), ids.device) for count in (rows - first, n_anchors))
    return Drafted(
        every, anchors, fresh, forced, chain, _kept_to_end(fresh, ids[first + 1 :], settings.depth)[n_anchors:] if to_end else None
    )


def _kept_to_end(fresh: Queries, wanted: Tensor, depth: int) -> Tensor:
    """Drafts kept at each anchor up to the text's end, a chain being the guesses of the anchors in a row; (anchor,)."""
    right = F.pad(fresh.guesses.drafted == wanted, (0, depth - 1)).unfold(0, depth, 1)
    return right.long().cumprod(dim=1).sum(dim=1)


@dataclass(frozen=True)
class _Behind:
    """What free chains of a text are drafted behind: its tokens and their labels, the cache of their rows, and at what temperature."""

    drafter: CausalLm
    ids: Tensor
    labels: Tensor
    cache: DynamicCache
    temperature: float


def _free(behind: _Behind, start: Queries, anchors: Tensor, depth: int) -> list[Queries]:
    drafter, ids, labels = behind.drafter, behind.ids, behind.labels
    found, rows, n = [start], len(labels), len(anchors)
    index = torch.arange(rows, device=ids.device)
    lowest = torch.finfo(drafter.lm.head.dtype).min
    columns = label_columns(labels, 0)
    for step in range(1, depth):
        columns = torch.cat([columns, label_columns(labels[:0], n)])
        own = rows + torch.arange(step, device=ids.device) * n + (anchors - anchors[0])[:, None]
        visible = torch.zeros(n, rows + step * n, dtype=torch.bool, device=ids.device)
        visible[:, :rows] = index <= anchors[:, None]
        visible.scatter_(1, own, True)
        mask = torch.zeros(visible.shape, dtype=drafter.lm.head.dtype, device=ids.device).masked_fill(~visible, lowest)
        with measuring(drafter, Measurement(columns, tail_keys(anchors, own, tail_length(depth)), rows, 0)) as seen:
            out = drafter.lm.model(
                drafter.tokens.fed[found[-1].guesses.drafted[None]],
                attention_mask=mask[None, None],
                position_ids=(anchors + step)[None],
                use_cache=True,
                **drafter.lm.continuing(behind.cache),
            )
        wanted = ids[anchors + step + 1]
        found.append(Queries(_guess(drafter, out.logits[0] / behind.temperature, wanted), Masses.joined(seen.layers, dim=0)))
    return found


def _guess(drafter: CausalLm, logits: Tensor, wanted: Tensor) -> Guesses:
    """Guesses as target ids, by logits (query, drafter rows). wanted: target ids, which the drafter may lack."""
    words = drafter.tokens.vocabulary
    guesses = Guesses.of(drafter.tokens.scores(logits.to(wanted.device)).float(), words.to_draft[wanted])
    return replace(guesses, drafted=words.to_target[guesses.drafted])
