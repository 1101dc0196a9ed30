"""Replies and chains of a run as they can be shown: tokens as text, what was drafted beside what was wanted, the control beside the chain.

All is of the run's reference and of its forced chains, which measure every depth at every anchor, as the numbers by depth do; what a round
of decoding drafted beyond its first miss is the free chain's, where the run has one. Rows are read prompt by prompt. Needs neither torch
nor the tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import groupby, takewhile
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from driftcli.domain import SHARES, Share
from driftcli.errors import RunError
from driftcli.printable import few
from driftcli.traces.parquet import holding
from driftcli.traces.pieces import Piece, Reader
from driftcli.traces.reader import Run

REPLY = ("prompt", "turn")
NO_WALK: Mapping[str, int] = {"rounds": 0, "accepted": 0}
NEAREST = 5  # anchors or prompts that a refusal names (chosen by us)


@dataclass(frozen=True, slots=True)
class ReplyHead:
    """One reply of the target. prompt_length, length: tokens of the rendered prompt, and of prompt and reply together. rounds, accepted:
    of the walk over its anchors at the full depth, verify rounds and the draft tokens that they kept; both 0 where it has no anchor.
    """

    prompt: str
    turn: int
    category: str | None
    prompt_length: int
    length: int
    rounds: int
    accepted: int


@dataclass(frozen=True, slots=True)
class Round:
    """One verify round of the walk: what was drafted from the anchor, up to the run's depth, as far as there were proposals, or, in a run
    without free chains, to the first miss; and how many of those tokens were kept.
    """

    anchor: int
    drafted: tuple[Piece, ...]
    accepted: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as text. labels: of each prompt token, 0 template, 1 content. pieces: the reply's tokens, the first at `prompt_length`;
    rounds in the order of decoding.
    """

    head: ReplyHead
    prompt_pieces: tuple[Piece, ...]
    labels: tuple[int, ...]
    pieces: tuple[Piece, ...]
    rounds: tuple[Round, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """One query of the drafter, as its row of `steps` holds it. drafted: None where it proposed nothing; right: whether that is the wanted
    token; target_prob: the target's probability of the wanted token; draft_prob: None without a distribution; rms, state_cosine: of the
    state, None without one; shares: of attention by region, and `recent`, None without attention; entropy: of attention, in nats.
    """

    drafted: Piece | None
    right: bool | None
    target_prob: float | None
    draft_prob: float | None
    rms: float | None
    state_cosine: float | None
    shares: dict[Share, float | None]
    entropy: float | None


@dataclass(frozen=True, slots=True)
class ChainStep:
    """One depth of a chain: the token that the target wrote there, the chain's query, and its control, the fresh query on the same tokens,
    None where the run has none.
    """

    depth: int
    wanted: Piece | None
    chain: Query
    control: Query | None


@dataclass(frozen=True, slots=True)
class Chain:
    """The forced chain from an anchor, depth by depth."""

    anchor: int
    steps: tuple[ChainStep, ...]


def reply_heads(run: Run) -> list[ReplyHead]:
    """Every reply of a run, by prompt and turn; rounds and kept draft tokens add up to its acceptance length."""
    rows = run.trajectories.select(["prompt", "turn", "category", "prompt_length", "length"]).to_pylist()
    heads = [ReplyHead(**{**row, **run.rows.walks.get((row["prompt"], row["turn"]), NO_WALK)}) for row in rows]
    return sorted(heads, key=lambda head: (head.prompt, head.turn))


def losing(run: Run, depth: int) -> list[tuple[ReplyHead, float]]:
    """Replies by how much of the accuracy at a depth their chains lose against the control, most first.

    What is lost is the control's accuracy minus the chain's over the anchors of the reply, in [-1, 1], whose mean over all anchors is the
    run's `accuracy_gap`. Empty for a run without controls, and for a drafter whose chain and control are one computation.
    """
    if run.pair.no_recursion is not None:
        return []
    steps = run.rows.steps([*REPLY, "feed", "match"], {"depth": [depth], "feed": ["fresh", "forced"]})
    right = steps.set_column(3, "match", steps["match"].cast(pa.float64())).group_by([*REPLY, "feed"]).aggregate([("match", "mean")])
    accuracy = {(row["prompt"], row["turn"], row["feed"]): row["match_mean"] for row in right.to_pylist()}
    heads = {(head.prompt, head.turn): head for head in reply_heads(run)}
    lost = {reply: accuracy[*reply, "fresh"] - accuracy[*reply, "forced"] for reply in heads if (*reply, "fresh") in accuracy}
    return [(heads[reply], lost[reply]) for reply in sorted(lost, key=lambda reply: (-lost[reply], reply))]


def reply(run: Run, prompt: str, turn: int = 0) -> Reply:
    """A reply as text, with the rounds of its walk; raises RunError where the run has none of that prompt and turn."""
    head, text = _found(run, prompt, turn)
    ids, first = text["ids"], head.prompt_length
    behind, reader = run.vocabulary.reader().read(ids[:first])
    pieces, _ = reader.read(ids[first:], whole=True)
    return Reply(head, behind, tuple(text["labels"][:first]), pieces, tuple(_rounds(run, head, ids, reader)))


def _rounds(run: Run, head: ReplyHead, ids: Sequence[int], reader: Reader) -> Iterator[Round]:
    """The rounds of a reply's walk; reader: behind its prompt."""
    steps = run.rows.steps_of(head.prompt, head.turn).select(["anchor", "depth", "feed", "drafted", "match", "on_walk"])
    visited = holding(steps, {"on_walk": [True], "feed": ["forced", "free"]}).sort_by([("anchor", "ascending"), ("depth", "ascending")])
    read = head.prompt_length
    for anchor, of_anchor in groupby(visited.to_pylist(), key=itemgetter("anchor")):
        chains = {feed: [row for row in rows if row["feed"] == feed] for rows in [list(of_anchor)] for feed in ("forced", "free")}
        accepted = len(list(takewhile(lambda row: row["match"], chains["forced"])))
        chain = [row["drafted"] for row in chains["free"] or chains["forced"][: accepted + 1]]
        drafted = list(takewhile(lambda token: token is not None, chain))
        _, reader = reader.read(ids[read : anchor + 1])
        read = anchor + 1
        yield Round(anchor, reader.read(drafted, whole=True)[0], accepted)


def chain(run: Run, prompt: str, turn: int, anchor: int) -> Chain:
    """The forced chain from an anchor, its controls beside it; raises RunError where the run has no such reply or anchor."""
    (found,) = chains(run, prompt, turn, [anchor])
    return found


def chains(run: Run, prompt: str, turn: int, anchors: Sequence[int]) -> list[Chain]:
    """The same from several anchors of one reply, in ascending order; the reply is read once."""
    head, text = _found(run, prompt, turn)
    rows, ids = run.rows.steps_of(prompt, turn), text["ids"]
    own: dict[int, dict[tuple[str, int], Mapping[str, Any]]] = {anchor: {} for anchor in anchors}
    for row in holding(rows, {"anchor": anchors}).to_pylist():
        own[row["anchor"]][row["feed"], row["depth"]] = row
    reader, read, found = run.vocabulary.reader(), 0, list[Chain]()
    for anchor in anchors:
        if not any(feed == "forced" for feed, _ in own[anchor]):
            raise RunError(f"{run.path}: {_no_anchor(head, rows, anchor)}")
        _, reader = reader.read(ids[read : anchor + 1])
        read = anchor + 1
        found.append(Chain(anchor, tuple(_steps(own[anchor], ids, anchor, reader))))
    return found


def _steps(own: Mapping[tuple[str, int], Mapping[str, Any]], ids: Sequence[int], anchor: int, reader: Reader) -> Iterator[ChainStep]:
    """The steps of a chain; own: its rows by feed and depth; reader: behind its anchor."""
    for depth in sorted(depth for feed, depth in own if feed == "forced"):
        forced, control = own["forced", depth], own.get(("fresh", depth))
        wanted = None if forced["wanted"] is None else reader.piece(forced["wanted"])
        yield ChainStep(depth, wanted, _query(forced, reader), None if control is None else _query(control, reader))
        _, reader = reader.read(ids[anchor + depth : anchor + depth + 1])


def _query(row: Mapping[str, Any], reader: Reader) -> Query:
    """A row of `steps`; reader: behind the tokens that the query stands on."""
    shares: dict[Share, float | None] = {name: row[f"share_{name}"] for name in SHARES}
    numbers = {name: row[name] for name in ("target_prob", "draft_prob", "rms", "state_cosine", "entropy")}
    drafted = None if row["drafted"] is None else reader.piece(row["drafted"])
    return Query(drafted=drafted, right=row["match"], shares=shares, **numbers)


def _found(run: Run, prompt: str, turn: int) -> tuple[ReplyHead, Mapping[str, Any]]:
    """A reply's head and its row of `trajectories`, token ids and labels among them."""
    heads = {(head.prompt, head.turn): head for head in reply_heads(run)}
    if (prompt, turn) not in heads:
        raise RunError(f"{run.path}: {_no_reply(list(heads), prompt, turn)}")
    return heads[prompt, turn], run.rows.text_of(prompt, turn)


def _no_reply(replies: Sequence[tuple[str, int]], prompt: str, turn: int) -> str:
    """Which replies there are instead."""
    if turns := [place for name, place in replies if name == prompt]:
        return f"the prompt {prompt!r} has no turn {turn}, expected one of {few(turns)}; name one with --turn"
    names = list(dict.fromkeys(name for name, _ in replies))
    near = get_close_matches(prompt, names, NEAREST) or names[:NEAREST]
    return f"no prompt {prompt!r} among {len(names)}, expected one such as {few(near)}; --table trajectories lists them"


def _no_anchor(head: ReplyHead, rows: pa.Table, anchor: int) -> str:
    """Which anchors there are instead."""
    where = f"the reply to {head.prompt!r}, turn {head.turn}"
    if not len(rows):
        return f"{where}, is too short for an anchor, so no chain was drafted from it; name another prompt"
    first, last = pc.min_max(rows["anchor"]).as_py().values()
    return f"{where}, has no anchor {anchor}, expected {first} to {last}; name one of them with --anchor"
