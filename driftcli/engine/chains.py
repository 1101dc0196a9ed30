"""Chains of every anchor of some texts at once: `K` forwards for all of them instead of `K` an anchor.

A fresh pass over all rows gives the shared keys, every first guess and every control. The chain of depth `d` is then one forward over all
anchors of all texts: each query sees the shared keys of its text up to its own anchor and the keys of its own chain. The forced chain
measures every depth at every anchor; the free chain, drafted beside it in the same forwards, is for attention as deployed. A parallel
drafter's rows see none behind them, so depth by depth they come to what its one pass gives; its free chain is the forced one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from driftcli.conditions import DraftSettings, Noise, Wiring
from driftcli.engine.attention import Keys, Masses, Shared, Sight, attend, attend_unmeasured, tail_length
from driftcli.engine.drafted import Apart, Drafted, Guesses, Laid, Queries, packed_streams, row_labels, sinks_biased, window_kept
from driftcli.engine.packing import Packing, Whole
from driftcli.engine.texts import seed_for
from driftcli.engine.trajectories import Trajectory
from driftcli.families.self_feeding import DrafterLayer, Finished, Flow, Projected, RopeTables, SelfFeedingDrafter
from driftcli.texts.prompts import content_hash


@dataclass(frozen=True)
class _Opening:
    """What a drafter, wired as it is to be, makes of all rows of some texts before any attention: the same under every condition but noise.

    states: of the target, fused, (row, width); rope: of these rows; labels: theirs, (text, row, 4).
    """

    drafter: SelfFeedingDrafter
    texts: Sequence[Trajectory]
    rows: Packing
    states: Tensor
    rope: RopeTables
    labels: Tensor

    @classmethod
    def of(cls, drafter: SelfFeedingDrafter, texts: Sequence[Trajectory]) -> _Opening:
        """Of texts as the target has read them."""
        counts = tuple(len(text.text.ids) - 2 for text in texts)
        states = drafter.fuse(packed_streams(texts, counts, drafter.boundaries))
        rows = Packing(counts, states.device)
        return cls(drafter, texts, rows, states, drafter.ropes(counts), row_labels(texts, rows, 1))

    @cached_property
    def flow(self) -> Flow:
        """The step of every row in front of the first layer."""
        tokens = Laid.of(self.texts, 0, self.rows.device).tokens(self.rows, self.rows.places + 1)
        return self.drafter.begin(self.drafter.embed(tokens, self.rows.sent(self.rows.places)), self.states)

    @cached_property
    def step(self) -> Projected:
        """What the first layer projects it to."""
        return self.drafter.layers[0].project(self.flow.inputs, torch.arange(self.rows.total, device=self.rows.device), self.rope)


class Openings:
    """Keeps what was made last of all rows of some texts, for the conditions that come next on them, wired alike."""

    def __init__(self) -> None:
        self._last: tuple[Wiring, Sequence[Trajectory], _Opening] | None = None

    def of(self, drafter: SelfFeedingDrafter, texts: Sequence[Trajectory], wiring: Wiring) -> _Opening:
        """The opening of these very texts."""
        if self._last is None or self._last[0] != wiring or list(map(id, self._last[1])) != list(map(id, texts)):
            self._last = wiring, texts, _Opening.of(drafter.wired(wiring), texts)
        return self._last[2]


@dataclass(frozen=True)
class _Texts:
    """Some texts as one drafter reads them under a condition: their tokens, and rows apart from the others, (text, row) each."""

    opening: _Opening
    laid: Laid
    kept: Tensor | None
    bias: Tensor | None

    @classmethod
    def of(cls, opening: _Opening, settings: DraftSettings, apart: Sequence[Apart]) -> _Texts:
        """The texts of an opening."""
        rows = opening.rows
        kept, bias = window_kept(rows, apart), sinks_biased(rows, apart, settings.sink_bias)
        return cls(opening, Laid.of(opening.texts, settings.depth, rows.device), kept, bias)

    @property
    def texts(self) -> Sequence[Trajectory]:
        """The texts."""
        return self.opening.texts

    @property
    def rows(self) -> Packing:
        """All of their rows."""
        return self.opening.rows

    @property
    def states(self) -> Tensor:
        """The target's, of all rows, (row, width)."""
        return self.opening.states

    @property
    def starts(self) -> list[int]:
        """The first anchor of each text."""
        return [text.prompt_length for text in self.texts]

    @property
    def names(self) -> list[str]:
        """What noise on each text is drawn for."""
        return [f"{content_hash(text.prompt)} {text.turn}" for text in self.texts]


@dataclass(frozen=True)
class _Feeds:
    """Which chains are drafted in the same forwards: of each text the forced ones, then the free ones.

    counts: of both, text by text; queries: both together; positions: of the anchors, by query; free: by query, whether it is a free one.
    """

    counts: tuple[int, ...]
    queries: Packing
    positions: Whole
    free: NDArray[np.bool_]

    @classmethod
    def of(cls, on: _Texts, forced: Sequence[int], free: Sequence[int]) -> _Feeds:
        """Chains from so many anchors of each text for both feeds."""
        counts = [count for pair in zip(forced, free, strict=True) for count in pair]
        starts = [start for start in on.starts for _ in range(2)]
        positions = [np.arange(start, start + count) for start, count in zip(starts, counts, strict=True)]
        queries = Packing(tuple(map(sum, zip(forced, free, strict=True))), on.rows.device)
        return cls(tuple(counts), queries, np.concatenate(positions), np.repeat([False, True] * len(forced), counts))

    def among(self, every: Packing, starts: Sequence[int]) -> Tensor:
        """Places of the queries' anchors among all that guess at the replies."""
        return every.sent(self._within(starts) + self.queries.spread(every.offsets[:-1]))

    def _within(self, starts: Sequence[int]) -> Whole:
        return self.positions - self.queries.spread(starts)

    def inside(self, starts: Sequence[int], counts: Sequence[int], *, behind: bool = False) -> Whole:
        """Places of the forced queries from the first so many anchors of each text, or of those from the anchors behind them."""
        first = self._within(starts) < self.queries.spread(counts)
        return np.flatnonzero(~self.free & (~first if behind else first))

    def reach(self, rows: Sequence[int]) -> tuple[int, ...]:
        """How many rows of each text the queries see at most."""
        ends = [self.positions[some] for some in map(slice, self.queries.offsets, self.queries.offsets[1:])]
        return tuple(int(some.max()) if len(some) else count for some, count in zip(ends, rows, strict=True))


@dataclass(frozen=True)
class _Chains:
    """The drafting of some texts under one setting."""

    drafter: SelfFeedingDrafter
    settings: DraftSettings
    on: _Texts

    def guess(self, step: Finished, wanted: Tensor) -> Guesses:
        """Greedy proposals of a finished step."""
        size, temperature = len(self.drafter.head), self.on.texts[0].temperature
        found = Guesses.by_head(self.drafter.logits, step.output, self.drafter.to_draft(wanted), size, temperature)
        return replace(found, drafted=self.drafter.to_target(found.drafted))

    def fresh(self) -> tuple[Packing, Queries, list[Shared]]:
        """The pass over all rows on the target's states: how many of each text's rows guess at its reply, their queries, and each layer's
        shared keys.
        """
        on, rows = self.on, self.on.rows
        late = rows.places >= rows.spread(on.starts) - 1
        asked = Packing(tuple(count - start + 1 for count, start in zip(rows.counts, on.starts, strict=True)), rows.device)
        before = Packing(tuple(start - 1 for start in on.starts), rows.device)
        asking, others = rows.sent(np.flatnonzero(late)), rows.sent(np.flatnonzero(~late))
        index, places, opening = torch.arange(rows.total, device=rows.device), rows.sent(rows.places), on.opening
        if noisy := self.settings.noise is not None:
            flow = self._begin(on.laid.tokens(rows, rows.places + 1), on.states, places, ["fresh 1"] * len(on.texts), rows.counts)
        else:
            flow = opening.flow
        shared, parts = list[Shared](), list[Masses]()
        for number, layer in enumerate(self.drafter.layers):
            step = layer.project(flow.inputs, index, opening.rope) if number or noisy else opening.step
            shared.append(Shared.of(rows, step.key, step.value, opening.labels))
            sight = Sight.of(places[asking], rows.counts, 0, self._window(layer), on.kept)
            attended, masses = attend(step.query[:, asking], asked, shared[-1], None, sight, self._tail, layer.scale, layer.sinks)
            parts.append(masses)
            if number + 1 == len(self.drafter.layers):
                stream = layer.leave(flow.residual[asking], attended)
                continue
            sight = Sight.of(places[others], rows.counts, 0, self._window(layer), on.kept)
            whole = attended.new_empty(rows.total, attended.shape[1])
            whole[asking] = attended
            whole[others] = attend_unmeasured(step.query[:, others], before, shared[-1], sight, layer.scale, layer.sinks)
            flow = self.drafter.layers[number + 1].enter(layer.leave(flow.residual, whole))
        done = self.drafter.finish(stream)
        wanted = on.laid.tokens(asked, asked.spread(on.starts) + asked.places + 1)
        return asked, Queries(self.guess(done, wanted), Masses.joined(parts, dim=0), self._handed(done.state)), shared

    def _handed(self, state: Tensor) -> Tensor | None:
        """What a step hands on: nothing in a parallel drafter."""
        return state if self.drafter.mask is None else None

    @property
    def _tail(self) -> int:
        return tail_length(self.settings.depth)

    def _begin(self, tokens: Tensor, states: Tensor, rows: Tensor, steps: Sequence[str], counts: Sequence[int]) -> Flow:
        """A step's start, with noise on the path that the setting names, drawn for so many items each of the texts in turn."""
        embedded, noise = self.drafter.embed(tokens, rows), self.settings.noise
        if noise is None:
            return self.drafter.begin(embedded, states)
        names = self.on.names
        each = len(steps) // len(names)
        drawn = [
            (f"{names[number // each]} {step}", count) for number, (step, count) in enumerate(zip(steps, counts, strict=True)) if count
        ]
        if noise.path == "embedding":
            return self.drafter.begin(noised(embedded, noise, drawn), states)
        return self.drafter.begin(embedded, noised(states, noise, drawn))

    def _window(self, layer: DrafterLayer) -> int | None:
        """The condition's window in place of the layer's own."""
        return layer.window if self.settings.window is None else self.settings.window

    def deeper(self, feeds: _Feeds, start: Queries, shared: Sequence[Shared]) -> list[Queries]:
        """The chains in `feeds`, depth by depth, the first being given; forced ones go on with the target's tokens."""
        on, items = self.on, feeds.queries
        found, own = [start], [list[Projected]() for _ in shared]
        free, last = items.sent(feeds.free), np.asarray(on.rows.counts)[items.texts] - 1
        reach = feeds.reach(on.rows.counts)
        wanted = on.laid.tokens(items, feeds.positions + 1)
        for depth in range(2, self.settings.depth + 1):
            rows = np.minimum(feeds.positions + depth - 2, last)  # beyond stand only guesses past the text's end, which nobody reads
            steps = [f"{kind} {depth}" for _ in on.texts for kind in ("forced", "free")]
            tokens, states = self._entered(found[-1], torch.where(free, found[-1].guesses.drafted, wanted), feeds, depth)
            flow = self._begin(tokens, states, items.sent(rows), steps, feeds.counts)
            done, masses = self._through(flow, feeds, items.sent(rows + items.spread(on.rows.offsets[:-1])), reach, shared, own)
            state = pinned(done.state, start.state) if self.settings.pinned else done.state
            wanted = on.laid.tokens(items, feeds.positions + depth)
            found.append(Queries(self.guess(done, wanted), masses, self._handed(state)))
        return found

    def _entered(self, before: Queries, tokens: Tensor, feeds: _Feeds, depth: int) -> tuple[Tensor, Tensor]:
        """Tokens and states that the queries of a depth read, the mask's in a parallel drafter."""
        if (mask := self.drafter.mask) is not None:
            return torch.full_like(tokens, mask.token), mask.state.expand(len(tokens), -1)
        assert before.state is not None
        return tokens, self._handed_on(before.state, feeds, depth)

    def _handed_on(self, own: Tensor, feeds: _Feeds, depth: int) -> Tensor:
        """The states that the queries of a depth read: the drafter's own, or the target's of the rows they stand at or began at."""
        every, rows, items = self.settings.reanchored, self.on.rows, feeds.queries
        on = feeds.positions - 1
        if not self.settings.held:
            if not every or (depth - 1) % every:
                return own
            on = on + depth - 1
        most = np.asarray(rows.counts)[items.texts] - 1
        return self.on.states[items.sent(np.minimum(on, most) + items.spread(rows.offsets[:-1]))]

    def _through(
        self, flow: Flow, feeds: _Feeds, rows: Tensor, reach: tuple[int, ...], shared: Sequence[Shared], own: Sequence[list[Projected]]
    ) -> tuple[Finished, Masses]:
        """One depth of all chains; each layer's keys are added to `own`. rows: of all texts' rows, those at which the queries stand."""
        last, stream, parts = feeds.queries.sent(feeds.positions - 1), flow.residual, list[Masses]()
        for number, layer in enumerate(self.drafter.layers):
            flow = flow if number == 0 else layer.enter(stream)
            step = layer.project(flow.inputs, rows, self.on.opening.rope)
            own[number].append(step)
            chain = Keys(torch.stack([p.key for p in own[number]], dim=2), torch.stack([p.value for p in own[number]], dim=2))
            steps = len(own[number])
            anchored = layer.from_anchor and self.settings.window is None
            sight = Sight.of(last, reach, 0 if anchored else steps, self._window(layer), self.on.kept)
            if self.drafter.mask is not None:  # whose windows hide no row of a chain in training, the anchor's being its first
                sight = replace(sight, lowest=torch.minimum(sight.lowest, last))
            sight = replace(sight, row_bias=self.on.bias, chain_bias=self.settings.chain_bias)
            scale = layer.scale / (1 + self.settings.warming * steps)
            attended, masses = attend(step.query, feeds.queries, shared[number], chain, sight, self._tail, scale, layer.sinks)
            parts.append(masses)
            stream = layer.leave(flow.residual, attended)
        return self.drafter.finish(stream), Masses.joined(parts, dim=0)


@torch.inference_mode()
def draft_together(
    drafter: SelfFeedingDrafter,
    texts: Sequence[Trajectory],
    settings: DraftSettings,
    horizon: int,
    *,
    free: bool,
    to_end: bool = False,
    apart: Sequence[Apart] = (),
    openings: Openings | None = None,
) -> Drafted:
    """Fresh, forced and, if asked, free chains of every anchor whose guesses up to `horizon` lie inside its text.

    Each text, all at one temperature, must have at least one such anchor, or a single one with `to_end`, which drafts from the anchors
    behind them too; and `settings.depth` at most `horizon`. apart: of each text the rows apart. openings: of other conditions on the same
    texts. Guesses are first choices, whatever the temperature.
    """
    counts, whole = tuple(text.n_anchors(horizon) for text in texts), tuple(text.n_anchors(1) for text in texts)
    assert all(whole if to_end else counts) and settings.depth <= horizon
    opening = (openings or Openings()).of(drafter, texts, settings.wiring)
    drafter = opening.drafter
    on = _Texts.of(opening, settings, apart or [Apart()] * len(texts))
    run = _Chains(drafter, settings, on)
    every, fresh, shared = run.fresh()
    parallel = drafter.mask is not None
    feeds = _Feeds.of(on, whole if to_end else counts, counts if free and not parallel else (0,) * len(texts))
    found = run.deeper(feeds, fresh.pick(feeds.among(every, on.starts)), shared)
    first = feeds.inside(on.starts, counts)
    forced = found if len(first) == feeds.queries.total else [queries.pick(feeds.queries.sent(first)) for queries in found]
    chosen = feeds.queries.sent(np.flatnonzero(feeds.free))
    drafted, behind = [queries.guesses.drafted for queries in found], feeds.inside(on.starts, counts, behind=True)
    ending = on.laid.kept_inside(drafted, feeds.queries, feeds.positions, behind) if to_end else None
    own = forced if parallel else [queries.pick(chosen) for queries in found]
    return Drafted(every, Packing(counts, on.rows.device), fresh, forced, own if free else [], ending, parallel)


def draft_chains(
    drafter: SelfFeedingDrafter,
    trajectory: Trajectory,
    settings: DraftSettings,
    horizon: int,
    *,
    free: bool,
    to_end: bool = False,
    kept: Sequence[int] = (),
    sinks: Sequence[int] = (0,),
) -> Drafted:
    """The same of one text. kept: rows that are seen whatever the window. sinks: rows that a sink's bias is for."""
    return draft_together(drafter, [trajectory], settings, horizon, free=free, to_end=to_end, apart=[Apart(kept, sinks)])


def noised(x: Tensor, noise: Noise, drawn_for: Sequence[tuple[str, int]]) -> Tensor:
    """Vectors with Gaussian noise of `alpha` times their RMS; (row, width).

    drawn_for: for what noise is drawn, and for how many rows; the same for the same seed and words on every device.
    """
    draws = []
    for words, rows in drawn_for:
        random = torch.Generator().manual_seed(seed_for(f"{noise.seed} {noise.path} {words}"))
        draws.append(torch.randn(rows, x.shape[1], generator=random))
    return (x.float() + noise.alpha * state_rms(x)[:, None] * torch.cat(draws).to(x.device)).to(x.dtype)


def pinned(states: Tensor, like: Tensor | None) -> Tensor:
    """States scaled to the RMS of others, row by row; (row, width) each."""
    assert like is not None
    return (states.float() * (state_rms(like) / state_rms(states).clamp(min=torch.finfo(torch.float32).tiny))[:, None]).to(states.dtype)


def state_rms(state: Tensor) -> Tensor:
    """RMS of each state, `||h|| / sqrt(width)`; (query, width) -> (query,)."""
    return state.float().square().mean(-1).sqrt()


def state_cosine(state: Tensor, other: Tensor) -> Tensor:
    """Cosine between paired states; (query, width) twice -> (query,)."""
    return F.cosine_similarity(state.float(), other.float(), dim=-1)
