"""Chains of a causal-LM drafter from every anchor of some texts: one teacher-forced forward gives every depth of the forced feed, which is
also its own control.

Free chains go on behind it, one token of every anchor of all texts in a forward: each query sees the keys of its text up to its anchor,
and those of its own chain alone. A parallel drafter's chains, forced and free alike, are such with masks in the place of guesses: no row
sees one behind it, so step by step they come to what its one pass gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from driftcli.conditions import DraftSettings
from driftcli.engine.attention import Masses, kept_of_chains
from driftcli.engine.drafted import Drafted, Guesses, Laid, Queries
from driftcli.engine.lm_attention import Chaining, Reading, measured, under_way
from driftcli.engine.packing import Packing, Whole
from driftcli.engine.trajectories import Trajectory
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.target.asked import Asked


@torch.inference_mode()
def draft_lm_chains(
    drafter: CausalLm, texts: Sequence[Trajectory], settings: DraftSettings, horizon: int, *, free: bool, to_end: bool = False
) -> Drafted:
    """Every anchor's chains of a causal-LM drafter; as `draft_together`, the forced feed taken from the fresh one unless parallel.

    A drafter that turns tokens by how long a text is takes one text at a time.
    """
    drafter = drafter.wired(settings.wiring)
    counts, depth = tuple(text.n_anchors(horizon) for text in texts), settings.depth
    assert all(text.n_anchors(1) for text in texts) if to_end else all(counts)
    assert depth <= horizon and settings.window is None
    reading = Reading(texts, depth)
    here = reading.on(drafter.lm.device)
    run = _Chains(drafter, texts, reading, Laid.of(texts, depth, here.rows.device))
    with measured(drafter):
        fresh = run.fresh()
        started = Drafted(here.asked, Packing(counts, drafter.lm.device), fresh, [], [])
        if drafter.mask is not None:
            return run.parallel(started, depth, free=free, to_end=to_end)
        forced = [started.control(deeper) for deeper in range(1, depth + 1)]
        chains = run.free(started.anchors, forced[0], depth) if free and started.n_anchors else []
    return replace(started, forced=forced, free=chains, kept_behind=run.kept_behind(fresh, counts, depth) if to_end else None)


def kept_numbers(drafter: CausalLm, depth: int) -> int:
    """Numbers that are kept of each token of a text while it is drafted on: attention of every head, of each depth and feed."""
    config = drafter.lm.config
    return kept_of_chains(config.num_hidden_layers, config.num_attention_heads, depth)


@dataclass(frozen=True)
class _Chains:
    """The drafting on some texts; reading: of them; laid: their tokens."""

    drafter: CausalLm
    texts: Sequence[Trajectory]
    reading: Reading
    laid: Laid

    def fresh(self) -> Queries:
        """The first guesses of all anchors `P .. N - 2`, which are those of every depth on the target's tokens."""
        here = self.reading.on(self.drafter.lm.device)
        inside = here.rows.texts * here.rows.longest + here.rows.places
        ids = torch.zeros(len(self.texts) * here.rows.longest, dtype=torch.long, device=self.laid.ids.device)
        ids[here.rows.sent(inside)] = self.laid.tokens(here.rows, here.rows.places)
        with under_way(self.reading), Asked(self.drafter.lm.model) as head:
            head.rows = here.asking
            out = self.drafter.lm.model(self.drafter.tokens.fed[ids].view(len(self.texts), -1), use_cache=False)
        return self._queries(head.among(out.logits), here.asked, self._anchors(here.asked), self.reading.masses)

    def _anchors(self, anchors: Packing) -> Whole:
        """Positions of the first so many anchors of each text."""
        return anchors.places + anchors.spread([text.prompt_length for text in self.texts])

    def _queries(self, logits: Tensor, items: Packing, positions: Whole, masses: Sequence[Masses]) -> Queries:
        """What queries at these positions propose by their logits (query, vocabulary)."""
        device, tokens, temperature = self.laid.ids.device, self.drafter.tokens, self.texts[0].temperature
        shared, wanted = tokens.vocabulary, self.laid.tokens(items, positions + 1)
        guesses = Guesses.by_head(
            lambda some: tokens.scores(some).float(), logits.to(device), shared.to_draft[wanted], len(shared.to_target), temperature
        )
        return Queries(
            replace(guesses, drafted=shared.to_target[guesses.drafted]),
            Masses.joined([one.to(device) for one in masses], dim=0) if masses else None,
        )

    def free(self, anchors: Packing, start: Queries, depth: int) -> list[Queries]:
        """Chains on own tokens, or on masks, from the first so many anchors of each text, depth by depth, the first being given."""
        found, positions = [start], self._anchors(anchors)
        chaining = Chaining(self.reading, anchors, positions)
        for step in range(1, depth):
            chaining.masses.clear()
            with under_way(chaining):
                tokens, rows = self.drafter.tokens.fed[found[-1].guesses.drafted], anchors.sent(positions + step)
                if self.drafter.mask is not None:
                    tokens = torch.full_like(tokens, self.drafter.mask)
                out = self.drafter.lm.model(tokens[None], position_ids=rows[None], use_cache=False)
            found.append(self._queries(out.logits[0], anchors, positions + step, chaining.masses))
        return found

    def parallel(self, started: Drafted, depth: int, *, free: bool, to_end: bool) -> Drafted:
        """Chains of masks from the anchors that are asked for; to_end: drafted from those behind them too."""
        every, anchors = started.every, started.anchors
        inside = every.places < every.spread(anchors.counts)
        asked = every if to_end else anchors
        found = self.free(asked, started.fresh if to_end else started.control(1), depth) if asked.total else []
        picked = every.sent(np.flatnonzero(inside))
        forced = [queries.pick(picked) if to_end else queries for queries in found] if anchors.total else []
        drafted = [queries.guesses.drafted for queries in found]
        ending = self.laid.kept_inside(drafted, every, self._anchors(every), np.flatnonzero(~inside)) if to_end else None
        return replace(started, forced=forced, free=forced if free else [], kept_behind=ending, own_keys=True)

    def kept_behind(self, fresh: Queries, counts: Sequence[int], depth: int) -> Tensor:
        """Drafts kept at the anchors behind the first so many of each text, up to the text's end: a chain is the guesses of the anchors in
        a row. (anchor,)
        """
        every = self.reading.on(self.laid.ids.device).asked
        drafted = F.pad(fresh.guesses.drafted, (0, depth - 1)).unfold(0, depth, 1)
        behind = np.flatnonzero(every.places >= every.spread(counts))
        return self.laid.kept_inside(drafted.unbind(1), every, self._anchors(every), behind)
