"""From a number to the text: a sample of replies with their rounds, and the chain and its controls behind every round, as plain values.

Short lists in place of names, and numbers to few digits: a page holds thousands of queries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from driftcli.domain import SHARES
from driftcli.printable import counted, printable
from driftcli.traces.pieces import Piece
from driftcli.traces.reader import Run
from driftcli.traces.samples import Chain, Query, Reply, ReplyHead, chains, losing, reply, reply_heads
from driftcli.traces.writer import Plain

ROOM = 1_000_000  # bytes of the sample, so that the page stays below 2 MB (chosen by us)
MOST = 24  # replies of a sample (chosen by us)
LONGEST = 4000  # characters of a prompt that are shown, half of them from its end (chosen by us)


@dataclass(frozen=True, slots=True)
class Texts:
    """What the page's script shows, and a sentence about what of the run that is."""

    samples: dict[str, Plain]
    note: str


def sampled(run: Run, *, all_prompts: bool) -> Texts:
    """Replies that lose most at some depth, as many as there is room for; or all of them."""
    lost = [losing(run, depth) for depth in range(1, run.spec.depth + 1)]
    everything = [head for head in reply_heads(run) if head.rounds]
    replies: dict[tuple[str, int], Plain] = {}
    room = ROOM
    for head in _in_turn(lost, everything):
        if len(replies) == MOST and not all_prompts:
            break
        told = _reply(run, head)
        room -= len(json.dumps(told, separators=(",", ":")))
        if room < 0 and replies and not all_prompts:
            break
        replies[head.prompt, head.turn] = told
    places = {key: place for place, key in enumerate(replies)}
    by_depth = [[[places[key], _short(loss)] for head, loss in ranked if (key := (head.prompt, head.turn)) in places] for ranked in lost]
    return Texts(
        {"shares": list(SHARES), "copies": run.pair.copies, "lost": by_depth if any(lost) else [], "replies": list(replies.values())},
        _note(len(replies), len(everything)),
    )


def _note(shown: int, all_of_them: int) -> str:
    if not all_of_them:
        return "No reply of this run is long enough for a chain, so there is nothing to look at."
    if shown == all_of_them:
        return f"All {counted(shown, 'reply', 'replies')} of the run."
    return f"{shown} of {all_of_them} replies, those that lose most at some depth; --all-prompts makes a page with all."


def _in_turn(lost: Sequence[Sequence[tuple[ReplyHead, float]]], everything: Sequence[ReplyHead]) -> Iterator[ReplyHead]:
    """Every reply once: those that lose most, the deepest depth first and one a depth in turn; without losses the least accepted first."""
    seen = set[tuple[str, int]]()
    fewest = sorted(everything, key=lambda head: (head.accepted / head.rounds, head.prompt, head.turn))
    ranked = [[head for head, _ in one] for one in reversed(lost) if one]
    for row in zip_longest(*ranked) if ranked else [(head,) for head in fewest]:
        for head in row:
            if head is not None and head.rounds and (head.prompt, head.turn) not in seen:
                seen.add((head.prompt, head.turn))
                yield head


def _reply(run: Run, head: ReplyHead) -> dict[str, Plain]:
    """A reply with its rounds and their chains."""
    found = reply(run, head.prompt, head.turn)
    return {
        "id": printable(head.prompt),
        "turn": head.turn,
        "category": None if head.category is None else printable(head.category),
        "counts": [head.prompt_length, head.length - head.prompt_length, head.rounds, head.accepted],
        "prompt": _prompt(found),
        "pieces": _texts(found.pieces),
        "rounds": [[one.anchor - head.prompt_length, one.accepted, _texts(one.drafted)] for one in found.rounds],
        "chains": list(map(_chain, chains(run, head.prompt, head.turn, [one.anchor for one in found.rounds]))),
    }


def _prompt(found: Reply) -> list[Plain]:
    """The prompt in stretches of one kind, `[is content, text]`; the middle of a long one is left out."""
    stretches: list[list[Plain]] = []
    for label, piece in zip(found.labels, found.prompt_pieces, strict=True):
        if stretches and stretches[-1][0] == label:
            stretches[-1][1] = f"{stretches[-1][1]}{_shown(piece)}"
        else:
            stretches.append([label, _shown(piece)])
    return [[label, _cut(str(text))] for label, text in stretches]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"


def _chain(found: Chain) -> list[Plain]:
    """By depth what was wanted, the chain's query and its control's."""
    return [
        [
            None if step.wanted is None else _shown(step.wanted),
            _query(step.chain),
            None if step.control is None else _query(step.control),
        ]
        for step in found.steps
    ]


def _query(one: Query) -> list[Plain]:
    """What was drafted, None for nothing, whether it is right, the target's and the drafter's probability, RMS, cosine, entropy, shares."""
    numbers = [one.target_prob, one.draft_prob, one.rms, one.state_cosine, one.entropy, *(one.shares[name] for name in SHARES)]
    return [None if one.drafted is None else _shown(one.drafted), one.right, *map(_short, numbers)]


def _texts(pieces: Sequence[Piece]) -> list[Plain]:
    return [_shown(piece) for piece in pieces]


def _shown(piece: Piece) -> str:
    """A token's text with its line breaks, everything else that cannot be seen as an escape."""
    return "\n".join(map(printable, piece.text.split("\n")))


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
