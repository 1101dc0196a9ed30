"""Chains of every anchor of a trajectory at once: `K` forwards a trajectory instead of `K` an anchor.

A fresh pass over all rows gives the shared keys, every first guess and every control. The chain of depth `d` is then one forward over all
anchors: each query sees the shared keys up to its own anchor and the keys of its own chain. The forced chain measures every depth at
every anchor; the free chain is drafted besides, for attention as deployed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from driftcli.conditions import DraftSettings, Noise
from driftcli.engine.attention import Keys, Masses, Sight, attend, attend_unmeasured, tail_length
from driftcli.engine.texts import seed_for
from driftcli.engine.trajectories import Trajectory
from driftcli.families.self_feeding import DrafterLayer, Finished, Flow, Projected, RopeTables, SelfFeedingDrafter
from driftcli.texts.prompts import content_hash


@dataclass(frozen=True, slots=True)
class Guesses:
    """What a set of queries proposed: target ids, the drafter's probability of them and of the wanted tokens (NaN outside its vocabulary),
    and the entropy of its distribution in nats; (query,) each.
    """

    drafted: Tensor
    draft_prob: Tensor
    wanted_prob: Tensor
    entropy: Tensor

    @classmethod
    def of(cls, probs: Tensor, drafted: Tensor, wanted: Tensor) -> Guesses:
        """First choices of distributions (query, draft vocabulary). drafted: target ids of these. wanted: draft ids, -1 for none."""
        wanted_prob = probs.gather(-1, wanted.clamp(min=0)[:, None])[:, 0].masked_fill(wanted < 0, torch.nan)
        return cls(drafted, probs.amax(-1), wanted_prob, torch.special.entr(probs).sum(-1))


@dataclass(frozen=True, slots=True)
class Queries:
    """One feed at one depth over all anchors: guesses, attention and, for a self-feeding drafter, the states (query, width) it fed on."""

    guesses: Guesses
    masses: Masses
    state: Tensor | None = None

    def pick(self, queries: Tensor) -> Queries:
        """Some of the queries."""
        g = self.guesses
        some = Guesses(g.drafted[queries], g.draft_prob[queries], g.wanted_prob[queries], g.entropy[queries])
        return Queries(some, self.masses.pick(queries), None if self.state is None else self.state[queries])


@dataclass(frozen=True, slots=True)
class Drafted:
    """All that one trajectory's chains gave: fresh queries of anchors `P .. N-2`, and each feed's queries by depth over the anchors `P ..
    P+A-1`. kept_behind: drafts kept at the anchors behind those, `P+A .. N-2`, counted up to the text's end; (anchor,), where asked.
    """

    n_anchors: int
    fresh: Queries
    forced: list[Queries]
    free: list[Queries]
    kept_behind: Tensor | None = None

    def control(self, depth: int) -> Queries:
        """The fresh queries that the chain queries of `depth` are held against: those of the anchors `d - 1` later."""
        return self.fresh.pick(torch.arange(self.n_anchors, device=self.fresh.guesses.drafted.device) + depth - 1)

    def ahead(self, queries: Queries, depth: int, *, fresh: bool) -> int | None:
        """How many of a query's last keys lie beyond the anchor that it is cut at, None where its own chain's keys are told apart."""
        is_fresh_pass = fresh or queries.state is None  # a causal LM's forced queries are fresh ones
        return depth - 1 if is_fresh_pass else None


@dataclass(frozen=True, slots=True)
class Rows:
    """Shared rows apart from the others: those that are seen whatever the window, and what is added to each one's scores; (row,) each."""

    kept: Tensor | None
    bias: Tensor | None

    @classmethod
    def of(cls, kept: Sequence[int], sinks: Sequence[int], bias: float, index: Tensor) -> Rows:
        """From the numbers of rows; index: (row,) of all."""

        def among(some: Sequence[int]) -> Tensor:
            return torch.isin(index, torch.tensor(some, device=index.device))

        return cls(among(kept) if kept else None, among(sinks) * bias if bias else None)


def kept_inside(chain: Sequence[Queries], ids: Tensor, first: int) -> Tensor:
    """Drafts kept at each anchor from `first` on, counted up to the text's end; what is guessed beyond it is nobody's. (anchor,)

    chain: forced queries by depth over these anchors. ids: (position,).
    """
    count, deepest = len(chain[0].guesses.drafted), len(chain)
    padded, place = F.pad(ids, (0, deepest)), torch.arange(count, device=ids.device)[:, None]
    right = [queries.guesses.drafted == padded[first + depth : first + depth + count] for depth, queries in enumerate(chain, 1)]
    inside = first + place + torch.arange(1, deepest + 1, device=ids.device) < len(ids)
    return (torch.stack(right, dim=1) & inside).long().cumprod(dim=1).sum(dim=1)


@dataclass(frozen=True)
class _Chains:
    """The drafting of one trajectory under one setting."""

    drafter: SelfFeedingDrafter
    settings: DraftSettings
    ids: Tensor
    first: int
    n_anchors: int
    labels: Tensor
    states: Tensor
    rope: RopeTables
    text: str
    temperature: float
    rows: Rows

    def wanted(self, depth: int) -> Tensor:
        """The tokens that the anchors' guesses of `depth` should be."""
        return self.ids[self.first + depth : self.first + depth + self.n_anchors]

    def guess(self, step: Finished, wanted: Tensor) -> Guesses:
        """Greedy proposals of a finished step."""
        probs = (self.drafter.logits(step.output) / self.temperature).softmax(-1)
        return Guesses.of(probs, self.drafter.to_target(probs.argmax(-1)), self.drafter.to_draft(wanted))

    def fresh(self) -> tuple[Queries, list[Keys]]:
        """The pass over all rows on the target's states: queries of the rows that guess at the reply, and each layer's shared keys."""
        rows, early = torch.arange(len(self.states), device=self.states.device), self.first - 1
        flow = self._begin(self.ids[1 : 1 + len(rows)], self.states, rows, "fresh 1")
        shared: list[Keys] = []
        parts: list[Masses] = []
        for number, layer in enumerate(self.drafter.layers):
            step = layer.project(flow.inputs, rows, self.rope)
            shared.append(Keys(step.key, step.value))
            attended, masses = self._attend(layer, step.query[:, early:], shared[-1], None, rows[early:])
            parts.append(masses)
            if number + 1 == len(self.drafter.layers):
                stream = layer.leave(flow.residual[early:], attended)
            else:
                sight = Sight.of(rows[:early], 0, self._window(layer), self.rows.kept)
                before = attend_unmeasured(step.query[:, :early], shared[-1], sight, layer.scale, layer.sinks)
                flow = self.drafter.layers[number + 1].enter(layer.leave(flow.residual, torch.cat([before, attended])))
        done = self.drafter.finish(stream)
        return Queries(self.guess(done, self.ids[self.first + 1 :]), Masses.joined(parts, dim=0), done.state), shared

    def kept_to_end(self, start: Queries, shared: list[Keys]) -> Tensor:
        """Drafts kept at each anchor by chains that reach past the text's end. (anchor,)"""
        padded = replace(self, ids=F.pad(self.ids, (0, self.settings.depth)))
        return kept_inside(padded.chain(start, shared, forced=True), self.ids, self.first)

    def chain(self, start: Queries, shared: list[Keys], *, forced: bool) -> list[Queries]:
        """Depths 2 and deeper, on the target's tokens or on its own."""
        found = [start]
        own: list[list[Projected]] = [[] for _ in self.drafter.layers]
        for depth in range(2, self.settings.depth + 1):
            before = found[-1]
            assert before.state is not None
            tokens = self.wanted(depth - 1) if forced else before.guesses.drafted
            rows = self._rows_at(depth)
            flow = self._begin(tokens, self._handed_on(before.state, depth), rows, f"{'forced' if forced else 'free'} {depth}")
            done, masses = self._deeper(flow, rows, shared, own)
            state = pinned(done.state, start.state) if self.settings.pinned else done.state
            found.append(Queries(self.guess(done, self.wanted(depth)), masses, state))
        return found

    def _rows_at(self, depth: int) -> Tensor:
        """Rows of the queries of a depth; beyond the last stand only guesses past the text's end, which nobody reads. (anchor,)"""
        anchors = torch.arange(self.n_anchors, device=self.ids.device) + self.first
        return (anchors + depth - 2).clamp(max=len(self.states) - 1)

    def _handed_on(self, own: Tensor, depth: int) -> Tensor:
        """The states that the queries of a depth read: the drafter's own, or the target's of the rows they stand at or began at."""
        every, start = self.settings.reanchored, self.first - 1
        if self.settings.held:
            return self.states[start : start + self.n_anchors]
        start += depth - 1
        return self.states[start : start + self.n_anchors] if every and (depth - 1) % every == 0 else own

    def _begin(self, tokens: Tensor, states: Tensor, rows: Tensor, step: str) -> Flow:
        """A step's start, with noise on the path that the setting names."""
        embedded, noise = self.drafter.embed(tokens, rows), self.settings.noise
        if noise is not None and noise.path == "embedding":
            embedded = noised(embedded, noise, f"{self.text} {step}")
        elif noise is not None:
            states = noised(states, noise, f"{self.text} {step}")
        return self.drafter.begin(embedded, states)

    def _deeper(self, flow: Flow, rows: Tensor, shared: list[Keys], own: list[list[Projected]]) -> tuple[Finished, Masses]:
        """One depth of all chains; each layer's keys are added to `own`."""
        anchors = torch.arange(self.n_anchors, device=self.ids.device) + self.first
        stream, parts = flow.residual, list[Masses]()
        for number, layer in enumerate(self.drafter.layers):
            flow = flow if number == 0 else layer.enter(stream)
            step = layer.project(flow.inputs, rows, self.rope)
            own[number].append(step)
            chain = Keys(torch.stack([p.key for p in own[number]], dim=2), torch.stack([p.value for p in own[number]], dim=2))
            attended, masses = self._attend(layer, step.query, shared[number], chain, anchors - 1)
            parts.append(masses)
            stream = layer.leave(flow.residual, attended)
        return self.drafter.finish(stream), Masses.joined(parts, dim=0)

    def _attend(self, layer: DrafterLayer, query: Tensor, shared: Keys, chain: Keys | None, last: Tensor) -> tuple[Tensor, Masses]:
        anchored = chain is None or (layer.from_anchor and self.settings.window is None)
        steps = 0 if chain is None else chain.key.shape[2]
        sight, scale = Sight.of(last, 0 if anchored else steps, self._window(layer), self.rows.kept), layer.scale
        if chain is not None:
            sight = replace(sight, row_bias=self.rows.bias, chain_bias=self.settings.chain_bias)
            scale /= 1 + self.settings.warming * steps
        return attend(query, shared, chain, sight, self.labels, tail_length(self.settings.depth), scale, layer.sinks)

    def _window(self, layer: DrafterLayer) -> int | None:
        """The condition's window in place of the layer's own."""
        return layer.window if self.settings.window is None else self.settings.window


@torch.inference_mode()
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
    """Fresh, forced and, if asked, free chains of every anchor whose guesses up to `horizon` lie inside the trajectory.

    The trajectory must have at least one such anchor, or a single one with `to_end`, which drafts from the anchors behind them too; and
    `settings.depth` at most `horizon`. kept: rows that are seen whatever the window. sinks: rows that a sink's bias is for. Guesses are
    first choices, whatever the trajectory's temperature.
    """
    rows = len(trajectory.ids) - 2
    n_anchors, n_all = trajectory.n_anchors(horizon), trajectory.n_anchors(1)
    assert (n_all if to_end else n_anchors) > 0 and settings.depth <= horizon
    drafter = drafter.wired(settings.wiring)
    states = drafter.fuse({boundary: trajectory.streams[boundary][:rows] for boundary in drafter.boundaries})
    ids = trajectory.ids.to(states.device)
    labels = trajectory.labels.to(states.device)[1 : rows + 1]
    text = f"{content_hash(trajectory.prompt)} {trajectory.turn}"
    apart = Rows.of(kept, sinks, settings.sink_bias, torch.arange(rows, device=ids.device))
    first, temperature = trajectory.prompt_length, trajectory.temperature
    run = _Chains(drafter, settings, ids, first, n_anchors, labels, states, drafter.rope(rows), text, temperature, apart)
    fresh, shared = run.fresh()
    places = torch.arange(n_all, device=ids.device)
    behind = replace(run, first=first + n_anchors, n_anchors=n_all - n_anchors) if to_end else None
    ending = behind.kept_to_end(fresh.pick(places[n_anchors:]), shared) if behind is not None and behind.n_anchors else None
    if not n_anchors:
        return Drafted(0, fresh, [], [], ending)
    start = fresh.pick(places[:n_anchors])
    reachable = [keys.until(first + n_anchors - 1) for keys in shared]
    chains = replace(run, labels=labels[: reachable[0].key.shape[1]])
    forced = chains.chain(start, reachable, forced=True)
    return Drafted(n_anchors, fresh, forced, chains.chain(start, reachable, forced=False) if free else [], ending)


def noised(x: Tensor, noise: Noise, drawn_for: str) -> Tensor:
    """Vectors with Gaussian noise of `alpha` times their RMS; the same for the same seed and `drawn_for` on every device. (row, width)."""
    random = torch.Generator().manual_seed(seed_for(f"{noise.seed} {noise.path} {drawn_for}"))
    drawn = torch.randn(x.shape, generator=random).to(x.device)
    return (x.float() + noise.alpha * state_rms(x)[:, None] * drawn).to(x.dtype)


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
