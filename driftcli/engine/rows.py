"""From tensors to trace rows: region shares cut at (anchor, depth), and the columns of every table as numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from driftcli.conditions import Condition
from driftcli.domain import RECENT_KEYS, SHARES, Feed
from driftcli.engine.attention import LABELS, Masses
from driftcli.engine.chains import Drafted, Queries, state_cosine, state_rms
from driftcli.engine.trajectories import Trajectory
from driftcli.families.block.drafter import Block
from driftcli.families.mtp.head import MtpModules
from driftcli.families.self_feeding import SelfFeedingDrafter
from driftcli.statistics.walks import leading_matches, walk, walk_counts
from driftcli.texts.rendering import REPLY
from driftcli.traces.writer import Columns

MINIMAL_SINK = 0.05  # least share of attention that makes a row a sink (chosen by us)
SINK_OVER_MEDIAN = 5.0  # and how many times the median candidate it must be (chosen by us)


def find_sink(fresh: Masses, labels: Tensor) -> int | None:
    """The row that takes the most attention of the fresh queries among the first rows of the prompt, or None where none stands out.

    labels: (row,) of the rows' tokens. A candidate must hold a prompt token: only those are seen by every query.
    """
    candidates = int((labels[: fresh.first.shape[-1]] != REPLY).sum())
    mass = fresh.first.float().mean(dim=(0, 1, 2))[:candidates]
    if not candidates or mass.max() < max(MINIMAL_SINK, SINK_OVER_MEDIAN * float(mass.quantile(0.5))):
        return None
    return int(mass.argmax())


def region_shares(masses: Masses, sink: int | None, labels: Tensor, ahead: int | None) -> dict[str, Tensor]:
    """Share of each region, (layer, head, query) each; the five regions sum to 1.

    labels: (row,). ahead: how many last keys lie beyond the anchor, for a control; None for a chain, whose own keys do.
    """
    label = dict(zip(LABELS, masses.label.unbind(-1), strict=True))
    found = {"template": label["template"], "prompt": label["prompt"], "verified": label["verified"], "ahead": label["chain"]}
    if ahead is not None:
        found["ahead"] = masses.tail[..., :ahead].sum(-1)
        found["verified"] = (label["verified"] - found["ahead"]).clamp(min=0)
    if sink is not None:
        found["sink"] = masses.first[..., sink]
        home = LABELS[int(labels[sink])]
        found[home] = (found[home] - found["sink"]).clamp(min=0)
    return {**found, "recent": masses.tail[..., :RECENT_KEYS].sum(-1)}


@dataclass(frozen=True)
class CellRows:
    """The rows of one condition on one trajectory, to be added to a cell's tables."""

    steps: list[Columns]
    heads: list[Columns]


def cell_rows(condition: Condition, trajectory: Trajectory, drafted: Drafted, sink: int | None, token_offset: int) -> CellRows:
    """Rows of the forced feed, of its controls where asked, and of the free feed where it was drafted."""
    labels = trajectory.labels[token_offset:]
    cell = _Cell(condition, trajectory, drafted, sink, labels)
    wanted: dict[Feed, bool] = {"fresh": condition.controls, "forced": True, "free": bool(drafted.free)}
    feeds = [feed for feed, asked in wanted.items() if asked]
    pairs = [(feed, depth) for feed in feeds for depth in range(1, condition.settings.depth + 1)]
    rows = [cell.rows(feed, depth) for feed, depth in pairs]
    return CellRows([steps for steps, _ in rows], [heads for _, heads in rows])


@dataclass(frozen=True)
class _Cell:
    condition: Condition
    trajectory: Trajectory
    drafted: Drafted
    sink: int | None
    labels: Tensor

    def _queries(self, feed: Feed, depth: int) -> Queries:
        if feed == "fresh":
            return self.drafted.control(depth)
        return (self.drafted.forced if feed == "forced" else self.drafted.free)[depth - 1]

    def _match(self, feed: Feed) -> np.ndarray:
        """(anchor, depth) of a feed's guesses against the trajectory."""
        return right_guesses([self._queries(feed, depth) for depth in range(1, self.condition.settings.depth + 1)], self.trajectory)

    @cached_property
    def _on_walk(self) -> np.ndarray:
        return walk(leading_matches(self._match("forced")))

    @cached_property
    def _free_so_far(self) -> np.ndarray:
        """(anchor, depth): all free guesses before `depth` were right."""
        match = self._match("free")
        return np.cumprod(np.concatenate([np.ones((len(match), 1), dtype=bool), match[:, :-1]], axis=1), axis=1).astype(bool)

    def _wanted(self, depth: int) -> np.ndarray:
        start = self.trajectory.prompt_length + depth
        return self.trajectory.ids[start : start + self.drafted.n_anchors].numpy()

    def rows(self, feed: Feed, depth: int) -> tuple[Columns, Columns]:
        """Columns of `steps` and of `heads` of one feed at one depth."""
        queries = self._queries(feed, depth)
        ahead = None if feed == "free" else self.drafted.ahead(queries, depth, fresh=feed == "fresh")
        shares = region_shares(queries.masses, self.sink, self.labels, ahead)
        return self._step_columns(feed, depth, queries, shares), self._head_columns(feed, depth, queries, shares)

    def _names(self, count: int) -> Columns:
        prompt = self.trajectory.prompt.id
        return {
            "probe": [self.condition.probe] * count,
            "condition": [self.condition.name] * count,
            "prompt": [prompt] * count,
            "turn": [self.trajectory.turn] * count,
        }

    def _step_columns(self, feed: Feed, depth: int, queries: Queries, shares: Mapping[str, Tensor]) -> Columns:
        n, wanted = self.drafted.n_anchors, self._wanted(depth)
        known = np.ones(n, dtype=bool) if feed != "free" else self._free_so_far[:, depth - 1]
        drafted = queries.guesses.drafted.cpu().numpy()
        at_reply = slice(depth, depth + n)
        return {
            **self._names(n),
            "anchor": self.trajectory.prompt_length + np.arange(n),
            "depth": [depth] * n,
            "feed": [feed] * n,
            "drafted": drafted,
            "wanted": np.ma.array(wanted, mask=~known),
            "match": np.ma.array(drafted == wanted, mask=~known),
            "on_walk": self._on_walk,
            "target_prob": np.ma.array(self.trajectory.target_prob[at_reply].numpy(), mask=~known),
            "draft_prob": queries.guesses.draft_prob.float().cpu().numpy(),
            "wanted_prob": _nullable(queries.guesses.wanted_prob, ~known),
            "draft_entropy": queries.guesses.entropy.float().cpu().numpy(),
            "rms": None if queries.state is None else state_rms(queries.state).cpu().numpy(),
            "state_cosine": self._cosine(feed, depth, queries),
            **self._share_columns(shares, (0, 1)),
            "entropy": queries.masses.entropy.float().mean(dim=(0, 1)).cpu().numpy(),
        }

    def _cosine(self, feed: Feed, depth: int, queries: Queries) -> np.ndarray | None:
        control = self.drafted.control(depth).state
        if feed != "forced" or queries.state is None or control is None:
            return None
        return state_cosine(queries.state, control).cpu().numpy()

    def _head_columns(self, feed: Feed, depth: int, queries: Queries, shares: Mapping[str, Tensor]) -> Columns:
        layers, heads, n = queries.masses.entropy.shape
        return {
            **self._names(layers * heads),
            "feed": [feed] * (layers * heads),
            "depth": [depth] * (layers * heads),
            "layer": np.repeat(np.arange(layers), heads),
            "head": np.tile(np.arange(heads), layers),
            "anchors": [n] * (layers * heads),
            **self._share_columns(shares, (2,)),
            "entropy": queries.masses.entropy.float().mean(dim=2).flatten().cpu().numpy(),
        }

    def _share_columns(self, shares: Mapping[str, Tensor], over: tuple[int, ...]) -> Columns:
        return {f"share_{name}": shares[name].float().mean(dim=over).flatten().cpu().numpy() if name in shares else None for name in SHARES}


def _nullable(values: Tensor, hidden: np.ndarray) -> np.ma.MaskedArray:
    numbers = values.float().cpu().numpy()
    return np.ma.array(numbers, mask=hidden | np.isnan(numbers))


def right_guesses(chain: Sequence[Queries], trajectory: Trajectory) -> np.ndarray:
    """Which guesses of a feed, depth by depth over the first anchors, are the trajectory's tokens; (anchor, depth)."""
    reply = trajectory.ids[trajectory.prompt_length :].numpy()
    drafted = [queries.guesses.drafted.cpu().numpy() for queries in chain]
    return np.stack([guesses == reply[depth : depth + len(guesses)] for depth, guesses in enumerate(drafted, 1)], axis=1)


def rounds_to_end(drafted: Drafted | None, trajectory: Trajectory, depth: int) -> list[int]:
    """Rounds in which decoding comes to the text's end, those included whose chains reach past it, for every draft length `1 .. depth`;
    none where the first reply token, which comes without a draft, is the last. drafted: with the anchors up to the end.
    """
    if drafted is None:
        return [0] * depth
    kept = leading_matches(right_guesses(drafted.forced, trajectory)) if drafted.n_anchors else np.zeros(0, dtype=np.int64)
    behind = kept[:0] if drafted.kept_behind is None else drafted.kept_behind.cpu().numpy()
    return walk_counts(np.concatenate([kept, behind]), depth)[0].tolist()  # type: ignore[no-any-return]


def trajectory_columns(trajectory: Trajectory, horizon: int, sink: int | None, rounds: Sequence[int] | None = None) -> Columns:
    """One row of `trajectories`; rounds: as `rounds_to_end`, None where they were not counted."""
    return {
        "prompt": [trajectory.prompt.id],
        "turn": [trajectory.turn],
        "category": [trajectory.prompt.category],
        "group": [trajectory.prompt.group],
        "prompt_length": [trajectory.prompt_length],
        "length": [len(trajectory.text.ids)],
        "ids": [trajectory.text.ids],
        "labels": [trajectory.text.labels],
        "anchors": [trajectory.n_anchors(horizon)],
        "rounds_to_end": [rounds],
        "sink_row": [sink],
        "target_prob": [trajectory.target_prob.tolist()],
        "target_entropy": [_entropies(trajectory)],
        "choices": [trajectory.choices.tolist()],
        "argmax_share": [float(trajectory.agrees.float().mean())],
        "generated": [trajectory.text.generated],
        "unlocated": [trajectory.text.unlocated],
        "prefix_length": [trajectory.text.prefix_length],
        "rendered_sha256": [trajectory.text.rendered_sha256],
    }


def _entropies(trajectory: Trajectory) -> Sequence[float | None]:
    """The target's entropy at each reply token, null where its engine does not tell it."""
    told = trajectory.target_entropy
    return [None] * len(trajectory.target_prob) if told is None else told.tolist()


@torch.inference_mode()
def stream_columns(trajectory: Trajectory, drafter: SelfFeedingDrafter | MtpModules | Block, condition: Condition) -> Columns:
    """Rows of `streams`: each stream that the drafter captures, and the fused input."""
    boundaries = drafter.boundaries
    rows = {boundary: trajectory.streams[boundary] for boundary in boundaries}
    fused = state_rms(drafter.fuse(rows))
    levels = [*(state_rms(rows[boundary]) for boundary in boundaries), fused]
    added = [*(state_rms(part) for part in drafter.contributions(rows)), fused]
    count = len(levels)
    return {
        "probe": [condition.probe] * count,
        "condition": [condition.name] * count,
        "prompt": [trajectory.prompt.id] * count,
        "turn": [trajectory.turn] * count,
        "stream": [*(f"boundary {boundary}" for boundary in boundaries), "fused"],
        "place": list(range(count)),
        "rows": [len(fused) - 1] * count,
        "rms": [float(level[1:].mean()) for level in levels],
        "first_row_rms": [float(level[0]) for level in levels],
        "added_rms": [float(level[1:].mean()) for level in added],
    }
