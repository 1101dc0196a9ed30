"""What chains gave: guesses, attention and states by query, of several texts one behind the other; and how texts are laid out for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from driftcli.engine.attention import LABELS, Masses
from driftcli.engine.packing import Packing, Whole
from driftcli.engine.trajectories import Trajectory
from driftcli.target.together import at_once

NOTHING = -1  # in place of a drafted token where a drafter proposed none
LEAST = torch.finfo(torch.float32).min  # of a token that is ruled out, below the best one: finite, and without weight


@dataclass(frozen=True, slots=True)
class Guesses:
    """What a set of queries proposed: target ids, `NOTHING` for none, the drafter's probability of them and of the wanted tokens (NaN
    outside its vocabulary), and the entropy of its distribution in nats; (query,) each.

    draft_prob, entropy: None for a drafter without a distribution, whose wanted_prob is 1 or 0. confidence: by a head trained for it, the
    probability that the token is accepted; None without one.
    """

    drafted: Tensor
    draft_prob: Tensor | None
    wanted_prob: Tensor
    entropy: Tensor | None
    confidence: Tensor | None = None

    @classmethod
    def of(cls, scores: Tensor, wanted: Tensor, temperature: float = 1.0) -> Guesses:
        """First choices, as draft ids, by scores (query, draft vocabulary). wanted: draft ids, -1 for none."""
        if temperature != 1:
            scores = scores / temperature
        best, drafted = scores.max(-1)
        gaps = (scores - best[:, None]).clamp_(min=LEAST)
        picked = gaps.gather(-1, wanted.clamp(min=0)[:, None])[:, 0].exp()
        weights = gaps.exp()
        total = weights.sum(-1)
        entropy = total.log() - torch.linalg.vecdot(weights, gaps) / total
        return cls(drafted, 1 / total, (picked / total).masked_fill(wanted < 0, torch.nan), entropy)

    @classmethod
    def by_head(cls, head: Callable[[Tensor], Tensor], outputs: Tensor, wanted: Tensor, size: int, temperature: float) -> Guesses:
        """The same of what an output head reads (query, width), some at a time; size: of its vocabulary."""
        few = max(1, at_once(outputs.device) // size)
        pairs = zip(torch.split(outputs, few), torch.split(wanted, few), strict=True)
        return cls.joined([cls.of(head(some), tokens, temperature) for some, tokens in pairs])

    @classmethod
    def joined(cls, parts: Sequence[Guesses]) -> Guesses:
        """One set behind another."""
        if len(parts) == 1:
            return parts[0]
        drafted, wanted_prob = (torch.cat(some) for some in zip(*((part.drafted, part.wanted_prob) for part in parts), strict=True))
        draft_prob, entropy, confidence = (
            _joined(some) for some in zip(*((part.draft_prob, part.entropy, part.confidence) for part in parts), strict=True)
        )
        return cls(drafted, draft_prob, wanted_prob, entropy, confidence)

    def pick(self, queries: Tensor) -> Guesses:
        """Some of them."""
        some = (None if part is None else part[queries] for part in (self.draft_prob, self.entropy, self.confidence))
        draft_prob, entropy, confidence = some
        return Guesses(self.drafted[queries], draft_prob, self.wanted_prob[queries], entropy, confidence)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """One behind another, None where one is not there."""
    there = [part for part in parts if part is not None]
    return torch.cat(there) if len(there) == len(parts) else None


@dataclass(frozen=True, slots=True)
class Queries:
    """One feed at one depth over all anchors: guesses, attention, None for a drafter without, and, for a self-feeding drafter, the states
    (query, width) it fed on.
    """

    guesses: Guesses
    masses: Masses | None
    state: Tensor | None = None

    def pick(self, queries: Tensor) -> Queries:
        """Some of the queries."""
        masses = None if self.masses is None else self.masses.pick(queries)
        return Queries(self.guesses.pick(queries), masses, None if self.state is None else self.state[queries])

    @classmethod
    def joined(cls, parts: Sequence[Queries]) -> Queries:
        """One set behind another."""
        states = [part.state for part in parts if part.state is not None]
        masses = [part.masses for part in parts if part.masses is not None]
        joined = Masses.joined(masses, dim=2) if masses else None
        return cls(Guesses.joined([part.guesses for part in parts]), joined, torch.cat(states) if states else None)


@dataclass(frozen=True, slots=True)
class Drafted:
    """All that the chains of some texts gave, one text's queries behind another's: fresh ones of the anchors `P .. N-2`, and each feed's by
    depth over the anchors `P .. P+A-1`. every, anchors: how many of both each text has. kept_behind: drafts kept at the anchors behind
    those, `P+A .. N-2`, counted up to the text's end; (anchor,), where asked. own_keys: whether forced queries have keys of their own chain
    even where they hand on no state.
    """

    every: Packing
    anchors: Packing
    fresh: Queries
    forced: list[Queries]
    free: list[Queries]
    kept_behind: Tensor | None = None
    own_keys: bool = False

    @property
    def n_anchors(self) -> int:
        """Anchors of all texts that chains were drafted from."""
        return self.anchors.total

    def control(self, depth: int) -> Queries:
        """The fresh queries that the chain queries of `depth` are held against: those of the anchors `d - 1` later."""
        places = self.anchors.spread(self.every.offsets[:-1]) + self.anchors.places + depth - 1
        return self.fresh.pick(self.anchors.sent(places))

    def ahead(self, queries: Queries, depth: int, *, fresh: bool) -> int | None:
        """How many of a query's last keys lie beyond the anchor that it is cut at, None where its own chain's keys are told apart."""
        is_fresh_pass = fresh or (queries.state is None and not self.own_keys)  # a causal LM's forced queries are fresh ones
        return depth - 1 if is_fresh_pass else None


@dataclass(frozen=True, slots=True)
class Apart:
    """Rows of a text apart from the others: those that a window does not hide, and those that a sink's bias is for."""

    kept: Sequence[int] = ()
    sinks: Sequence[int] = (0,)


def window_kept(rows: Packing, apart: Sequence[Apart]) -> Tensor | None:
    """Which rows a window does not hide, (text, row); None where it hides them all alike."""
    return _marked(rows, [one.kept for one in apart]) if any(one.kept for one in apart) else None


def sinks_biased(rows: Packing, apart: Sequence[Apart], nats: float) -> Tensor | None:
    """What is added to the scores of rows that a sink's bias is for, (text, row); None for no bias."""
    return _marked(rows, [one.sinks for one in apart]) * nats if nats else None


def _marked(rows: Packing, some: Sequence[Sequence[int]]) -> Tensor:
    """Which rows are among some of their text's, by their numbers; (text, row)."""
    marks = np.zeros((len(some), rows.longest), dtype=bool)
    for text, (numbers, count) in enumerate(zip(some, rows.counts, strict=True)):
        marks[text, [number for number in numbers if number < count]] = True
    return torch.from_numpy(marks).to(rows.device)


@dataclass(frozen=True, slots=True)
class Laid:
    """Tokens of some texts, (position,), one text behind the other, each with room for guesses behind its end. lengths: of the texts;
    offsets: where each begins.
    """

    ids: Tensor
    lengths: tuple[int, ...]
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, texts: Sequence[Trajectory], behind: int, device: torch.device) -> Laid:
        """With room for guesses so far behind the end."""
        lengths = tuple(len(text.text.ids) for text in texts)
        lying = Packing(tuple(length + behind for length in lengths), device)
        padded = chain.from_iterable((*text.text.ids, *[0] * behind) for text in texts)
        return cls(lying.sent(np.fromiter(padded, dtype=np.int64, count=lying.total)), lengths, lying.offsets[:-1])

    def tokens(self, items: Packing, positions: Whole) -> Tensor:
        """Tokens at each item's position of its text."""
        return self.ids[items.sent(items.spread(self.offsets) + positions)]

    def kept_inside(self, drafted: Sequence[Tensor], anchors: Packing, positions: Whole, some: Whole) -> Tensor:
        """Drafts kept by forced chains at some of all anchors, up to their texts' ends: what is guessed beyond is nobody's. (chain,)

        drafted: at all anchors, depth by depth, (anchor,) each; some: numbers of those asked for.
        """
        begins = (anchors.spread(self.offsets) + positions)[some]
        left = (anchors.spread(self.lengths) - 1 - positions)[some]
        depths, places = torch.arange(1, len(drafted) + 1, device=self.ids.device), anchors.sent(some)
        right = torch.stack([one[places] for one in drafted], dim=1) == self.ids[anchors.sent(begins)[:, None] + depths]
        return (right & (depths <= anchors.sent(left)[:, None])).long().cumprod(dim=1).sum(dim=1)


def packed_streams(texts: Sequence[Trajectory], rows: Sequence[int], boundaries: Sequence[int]) -> dict[int, Tensor]:
    """The target's streams at so many first rows of each text, one text's behind the other's, by boundary; (row, width) each."""
    pairs = list(zip(texts, rows, strict=True))
    return {boundary: torch.cat([text.streams[boundary][:count] for text, count in pairs]) for boundary in boundaries}


def row_labels(texts: Sequence[Trajectory], rows: Packing, offset: int) -> Tensor:
    """One-hot labels of every text's rows, (text, row, 4), whose first holds the token `offset`; past the text's end they are verified."""
    labels = np.full((len(texts), rows.longest), LABELS.index("verified"))
    for number, (text, count) in enumerate(zip(texts, rows.counts, strict=True)):
        known = text.text.labels[offset : offset + count]
        labels[number, : len(known)] = known
    return F.one_hot(torch.from_numpy(labels).to(rows.device), len(LABELS)).float()
