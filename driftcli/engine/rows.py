"""From tensors to trace rows: region shares cut at (anchor, depth), and the columns of every table as numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from driftcli.conditions import Condition
from driftcli.domain import RECENT_KEYS, SHARES, Feed
from driftcli.engine.attention import LABELS, Masses
from driftcli.engine.chains import state_cosine, state_rms
from driftcli.engine.drafted import NOTHING, Drafted, Queries, packed_streams
from driftcli.engine.packing import Packing, means
from driftcli.engine.trajectories import Trajectory
from driftcli.families.assistant.drafter import Assistant
from driftcli.families.block.drafter import Block
from driftcli.families.feed_forward.drafter import FeedForward
from driftcli.families.mtp.head import MtpModules
from driftcli.families.self_feeding import SelfFeedingDrafter
from driftcli.statistics.walks import leading_matches, walk, walk_counts
from driftcli.texts.rendering import REPLY
from driftcli.traces.writer import Columns

MINIMAL_SINK = 0.05  # least share of attention that makes a row a sink (chosen by us)
OWN_NUMBERS = ("draft_prob", "draft_entropy", "confidence")  # of a token that was proposed
STEP_NUMBERS = (*OWN_NUMBERS, "wanted_prob", "rms", "state_cosine")
SHARE_COLUMNS = tuple(f"share_{name}" for name in SHARES)
ATTENTION = (*SHARE_COLUMNS, "entropy")
SINK_OVER_MEDIAN = 5.0  # and how many times the median candidate it must be (chosen by us)


def find_sinks(fresh: Masses | None, queries: Packing, texts: Sequence[Trajectory], token_offset: int) -> list[int | None]:
    """Of each text the row that takes the most attention of the fresh queries among the first rows of the prompt, or None where none
    stands out. A candidate must hold a prompt token: only those are seen by every query. fresh: None for a drafter without attention.
    """
    if fresh is None:
        return [None] * len(texts)
    mass = means(queries, fresh.first.float().mean(dim=(0, 1)).T).T.cpu().numpy()
    return [_sink(mass[number], text.text.labels[token_offset:]) for number, text in enumerate(texts)]


def _sink(mass: np.ndarray, labels: Sequence[int]) -> int | None:
    """mass: (candidate,). labels: of the rows' tokens."""
    among = mass[: sum(label != REPLY for label in labels[: len(mass)])]
    if not len(among) or among.max() < max(MINIMAL_SINK, SINK_OVER_MEDIAN * float(np.quantile(among, 0.5))):
        return None
    return int(among.argmax())


@dataclass(frozen=True, slots=True)
class Sinks:
    """Of each query the row that is its text's sink, -1 for none, and the label of the sink's token; (query,) each."""

    row: Tensor
    label: Tensor

    @classmethod
    def of(cls, sinks: Sequence[int | None], texts: Sequence[Trajectory], token_offset: int, queries: Packing, times: int) -> Sinks:
        """From one a text; times: how often the texts' queries stand behind one another."""
        rows = [-1 if sink is None else sink for sink in sinks]
        labels = [0 if sink is None else text.text.labels[token_offset + sink] for sink, text in zip(sinks, texts, strict=True)]
        return cls(*(queries.sent(np.tile(queries.spread(numbers), times)) for numbers in (rows, labels)))


def region_shares(masses: Masses, sinks: Sinks, ahead: Tensor | None) -> dict[str, Tensor]:
    """Share of each region, (layer, head, query) each; the five regions sum to 1, but for a text without a sink, whose share says nothing.

    ahead: how many last keys lie beyond the anchor, for controls, (query,); None for chains, whose own keys do.
    """
    label = dict(zip(LABELS, masses.label.unbind(-1), strict=True))
    found = {"template": label["template"], "prompt": label["prompt"], "verified": label["verified"], "ahead": label["chain"]}
    if ahead is not None:
        sums = F.pad(masses.tail.cumsum(-1), (1, 0))
        found["ahead"] = sums.gather(-1, ahead[:, None].expand(*sums.shape[:-1], 1))[..., 0]
        found["verified"] = (label["verified"] - found["ahead"]).clamp(min=0)
    sink = masses.first.gather(-1, sinks.row.clamp(min=0)[:, None].expand(*masses.first.shape[:-1], 1))[..., 0] * (sinks.row >= 0)
    for place, home in enumerate(LABELS[:2]):
        found[home] = torch.where(sinks.label == place, (found[home] - sink).clamp(min=0), found[home])
    return {**found, "sink": sink, "recent": masses.tail[..., :RECENT_KEYS].sum(-1)}


@dataclass(frozen=True)
class CellRows:
    """The rows of one condition on one text, to be added to a cell's tables."""

    steps: list[Columns]
    heads: list[Columns]


def cell_rows(
    condition: Condition, texts: Sequence[Trajectory], drafted: Drafted, sinks: Sequence[int | None], token_offset: int
) -> list[CellRows]:
    """Of each text the rows of the forced feed, of its controls where asked, and of the free feed where it was drafted."""
    cell = _Cell(condition, texts, drafted, sinks, token_offset)
    wanted: dict[Feed, bool] = {"fresh": condition.controls, "forced": True, "free": bool(drafted.free)}
    numbers = {feed: cell.numbers(feed) for feed, asked in wanted.items() if asked}
    return [cell.rows(numbers, text) for text in range(len(texts))]


@dataclass(frozen=True)
class _Numbers:
    """What is told of one feed, on the host: drafted (depth, query); steps by column, (depth, query) each; heads by column, (depth, layer,
    head, text) each, none without attention.
    """

    drafted: np.ndarray
    steps: Mapping[str, np.ndarray]
    heads: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _Cell:
    condition: Condition
    texts: Sequence[Trajectory]
    drafted: Drafted
    sinks: Sequence[int | None]
    token_offset: int

    @property
    def _depth(self) -> int:
        return self.condition.settings.depth

    def numbers(self, feed: Feed) -> _Numbers:
        """What is told of a feed, of all texts and depths at once."""
        drafted, depths = self.drafted, range(1, self._depth + 1)
        chain = [drafted.control(depth) for depth in depths] if feed == "fresh" else drafted.forced if feed == "forced" else drafted.free
        queries = Queries.joined(chain)
        ids = torch.unflatten(queries.guesses.drafted, 0, (self._depth, -1)).cpu().numpy()
        told, heads = self._told(feed, queries), dict[str, np.ndarray]()
        if queries.masses is not None:
            stacked = self._attention(feed, chain, queries.masses)
            told |= dict(zip(ATTENTION, stacked.mean(dim=(1, 2)), strict=True))
            by_head = means(drafted.anchors, torch.unflatten(stacked, 3, (self._depth, -1))).movedim(3, 1).cpu().numpy()
            heads = dict(zip(ATTENTION, by_head, strict=True))
        steps = torch.unflatten(torch.stack(list(told.values())), 1, (self._depth, -1)).cpu().numpy()
        return _Numbers(ids, dict(zip(told, steps, strict=True)), heads)

    def _attention(self, feed: Feed, chain: Sequence[Queries], masses: Masses) -> Tensor:
        """Shares and entropy of a feed's attention, as `ATTENTION` names them, (number, layer, head, query); masses: of the whole chain."""
        drafted, anchors = self.drafted, self.drafted.anchors
        aheads = [None if feed == "free" else drafted.ahead(one, depth, fresh=feed == "fresh") for depth, one in enumerate(chain, 1)]
        counted = [ahead for ahead in aheads if ahead is not None]
        ahead = anchors.sent(np.repeat(counted, anchors.total)) if counted else None
        sinks = Sinks.of(self.sinks, self.texts, self.token_offset, anchors, self._depth)
        shares = region_shares(masses, sinks, ahead)
        return torch.stack([*(shares[name] for name in SHARES), masses.entropy]).float()

    def _told(self, feed: Feed, queries: Queries) -> dict[str, Tensor]:
        """What is told of each query beside its attention; (query,) each."""
        guesses, state = queries.guesses, queries.state
        own = dict(zip(OWN_NUMBERS, (guesses.draft_prob, guesses.entropy, guesses.confidence), strict=True))
        told = {name: numbers.float() for name, numbers in {**own, "wanted_prob": guesses.wanted_prob}.items() if numbers is not None}
        if state is not None:
            told["rms"] = state_rms(state)
            controls = [self.drafted.control(depth).state for depth in range(1, self._depth + 1)] if feed == "forced" else []
            if known := [control for control in controls if control is not None]:
                told["state_cosine"] = state_cosine(state, torch.cat(known))
        return told

    def rows(self, numbers: Mapping[Feed, _Numbers], text: int) -> CellRows:
        """The rows of one text."""
        first, end = self.drafted.anchors.offsets[text : text + 2]
        if first == end:
            return CellRows([], [])
        mine = slice(first, end)
        reply = np.asarray(self.texts[text].text.ids[self.texts[text].prompt_length :])
        wanted = np.stack([reply[depth : depth + end - first] for depth in range(1, self._depth + 1)])
        on_walk = walk(leading_matches((numbers["forced"].drafted[:, mine] == wanted).T))
        return CellRows(
            [self._step_columns(feed, found, text, mine, wanted, on_walk) for feed, found in numbers.items()],
            [self._head_columns(feed, found, text, end - first) for feed, found in numbers.items() if found.heads],
        )

    def _names(self, text: int, count: int) -> Columns:
        return {
            "probe": [self.condition.probe] * count,
            "condition": [self.condition.name] * count,
            "prompt": [self.texts[text].prompt.id] * count,
            "turn": [self.texts[text].turn] * count,
        }

    def _step_columns(self, feed: Feed, found: _Numbers, text: int, mine: slice, wanted: np.ndarray, on_walk: np.ndarray) -> Columns:
        """(depth, anchor) each, flattened."""
        trajectory, n, deepest = self.texts[text], mine.stop - mine.start, self._depth
        drafted = found.drafted[:, mine]
        match, missing = drafted == wanted, (drafted == NOTHING).reshape(-1)
        known = np.ones_like(match)
        if feed == "free":
            known[1:] = np.cumprod(match[:-1], axis=0).astype(bool)
        probs = trajectory.target_prob.numpy()
        hidden, numbers = ~known.reshape(-1), {name: values[:, mine].reshape(-1) for name, values in found.steps.items()}
        target = np.stack([probs[depth : depth + n] for depth in range(1, deepest + 1)]).reshape(-1)
        likely = np.where(missing, 0, numbers["wanted_prob"])
        if self.sinks[text] is None:
            numbers.pop("share_sink", None)
        return {
            **self._names(text, n * deepest),
            "anchor": np.tile(trajectory.prompt_length + np.arange(n), deepest),
            "depth": np.repeat(np.arange(1, deepest + 1), n),
            "feed": [feed] * (n * deepest),
            "drafted": np.ma.array(drafted.reshape(-1), mask=missing),
            "wanted": np.ma.array(wanted.reshape(-1), mask=hidden),
            "match": np.ma.array(match.reshape(-1), mask=hidden),
            "on_walk": np.tile(on_walk, deepest),
            "target_prob": np.ma.array(target, mask=hidden),
            **dict.fromkeys((*STEP_NUMBERS, *ATTENTION)),
            **numbers,
            **{name: np.ma.array(numbers[name], mask=missing) for name in OWN_NUMBERS if name in numbers},
            "wanted_prob": np.ma.array(likely, mask=hidden | np.isnan(likely)),
        }

    def _head_columns(self, feed: Feed, found: _Numbers, text: int, anchors: int) -> Columns:
        """(depth, layer, head) each, flattened."""
        depths, layers, heads, _ = found.heads["entropy"].shape
        count = depths * layers * heads
        numbers = {name: values[..., text].reshape(-1) for name, values in found.heads.items()}
        if self.sinks[text] is None:
            del numbers["share_sink"]
        return {
            **self._names(text, count),
            "feed": [feed] * count,
            "depth": np.repeat(np.arange(1, depths + 1), layers * heads),
            "layer": np.tile(np.repeat(np.arange(layers), heads), depths),
            "head": np.tile(np.arange(heads), depths * layers),
            "anchors": [anchors] * count,
            **dict.fromkeys(SHARE_COLUMNS),
            **numbers,
        }


def right_guesses(chain: Sequence[Queries], anchors: Packing, texts: Sequence[Trajectory]) -> list[np.ndarray]:
    """Which guesses of a feed, depth by depth over the first anchors, are each text's tokens; (anchor, depth) each."""
    drafted = torch.stack([queries.guesses.drafted for queries in chain], dim=1).cpu().numpy()
    found = []
    for text, first, end in zip(texts, anchors.offsets, anchors.offsets[1:], strict=False):
        reply = np.asarray(text.text.ids[text.prompt_length :])
        wanted = [reply[depth : depth + end - first] for depth in range(1, len(chain) + 1)]
        found.append(drafted[first:end] == np.stack(wanted, axis=1))
    return found


def rounds_to_end(drafted: Drafted, texts: Sequence[Trajectory], depth: int) -> list[list[int]]:
    """Of each text the rounds in which decoding comes to its end, those included whose chains reach past it, for every draft length `1 ..
    depth`. drafted: with the anchors up to the end.
    """
    right = right_guesses(drafted.forced, drafted.anchors, texts) if drafted.n_anchors else [np.zeros((0, depth), dtype=bool)] * len(texts)
    behind = np.zeros(0, dtype=np.int64) if drafted.kept_behind is None else drafted.kept_behind.cpu().numpy()
    ends = np.cumsum(np.subtract(drafted.every.counts, drafted.anchors.counts))
    parts = np.split(behind, ends[:-1])
    return [walk_counts(np.concatenate([leading_matches(one), part]), depth)[0].tolist() for one, part in zip(right, parts, strict=True)]


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
def stream_columns(
    texts: Sequence[Trajectory], drafter: SelfFeedingDrafter | MtpModules | Block | Assistant | FeedForward, condition: Condition
) -> list[Columns]:
    """Of each text its rows of `streams`: each stream that the drafter captures, and the fused input."""
    boundaries, counts = drafter.boundaries, [len(text.text.ids) - 1 for text in texts]
    rows = packed_streams(texts, counts, boundaries)
    fused = drafter.fuse(rows)
    levels = torch.stack([state_rms(stream) for stream in (*(rows[boundary] for boundary in boundaries), fused)])
    added = torch.stack([state_rms(part) for part in (*drafter.contributions(rows), fused)])
    packing = Packing(tuple(counts), fused.device)
    first = levels[:, packing.sent(np.asarray(packing.offsets[:-1]))]
    behind, later = Packing(tuple(count - 1 for count in counts), fused.device), packing.sent(np.flatnonzero(packing.places > 0))
    told = torch.stack([means(behind, levels[:, later]), first, means(behind, added[:, later])]).cpu().numpy()
    return [
        _streams(text, boundaries, condition, count - 1, told[..., number])
        for number, (text, count) in enumerate(zip(texts, counts, strict=True))
    ]


def _streams(text: Trajectory, boundaries: Sequence[int], condition: Condition, rows: int, told: np.ndarray) -> Columns:
    """told: (3, stream), the mean RMS of a stream, that of its first row, and the mean of what it adds."""
    count = told.shape[1]
    return {
        "probe": [condition.probe] * count,
        "condition": [condition.name] * count,
        "prompt": [text.prompt.id] * count,
        "turn": [text.turn] * count,
        "stream": [*(f"boundary {boundary}" for boundary in boundaries), "fused"],
        "place": list(range(count)),
        "rows": [rows] * count,
        "rms": told[0],
        "first_row_rms": told[1],
        "added_rms": told[2],
    }
