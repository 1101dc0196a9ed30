"""Conversations that a target writes turn by turn, whatever runs it: each turn of each is a request of its own, and waits for no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from driftcli.target.target import Target, Writing
from driftcli.training.conversations import Conversation, Turn


@dataclass
class Transcript:
    """What was said so far, and the half-open spans of it that are replies. ended: its last reply wrote an end token; closed: it is as long
    as it may get, or as the target has room for.
    """

    ids: list[int] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    ended: bool = False
    closed: bool = False

    def say(self, ids: Sequence[int]) -> None:
        """Put tokens behind it that are no reply."""
        self.ids += ids
        self.ended = False

    def reply(self, ids: Sequence[int], ends: Sequence[int]) -> None:
        """Put a reply behind it."""
        self.spans.append((len(self.ids), len(self.ids) + len(ids)))
        self.ids += ids
        self.ended = ids[-1] in ends


class Transcripts:
    """Conversations as lists of token ids, to be cut at `length` tokens. ends: tokens by which the target ends a turn."""

    def __init__(self, target: Target, rows: int, ends: Sequence[int], length: int) -> None:
        self._target, self._ends, self._length = target, ends, length
        self._rows = [Transcript() for _ in range(rows)]

    def add(self, ids: Sequence[int]) -> None:
        """Put the template's tokens behind every one; an end token that a reply has already written is not repeated."""
        for row in self._rows:
            if not row.closed:
                row.say(ids[1:] if row.ended and ids[0] in self._ends else ids)

    def give(self, turns: Sequence[Sequence[int]]) -> None:
        """Put a user turn of its own behind each."""
        for row, ids in zip(self._rows, turns, strict=True):
            if not row.closed:
                row.say(ids)

    def write(self, what: Turn, limit: int, temperature: float, also_ends: Sequence[int] = ()) -> None:
        """Let the target write a turn of each, at most `limit` tokens; a user turn loses its end token, which the template brings."""
        for row in self._rows:
            row.closed = row.closed or len(row.ids) >= self._length or not self._admits(len(row.ids) + limit)
        ends, rows = [*self._ends, *also_ends], [row for row in self._rows if not row.closed]
        said = self._target.write([row.ids for row in rows], Writing(limit, temperature, ends=also_ends)) if rows else []
        for row, ids in zip(rows, said, strict=True):
            if what == "reply":
                row.reply(ids, ends)
            else:
                row.say(ids[:-1] if ids[-1] in ends else ids)

    def _admits(self, tokens: int) -> bool:
        room = self._target.room
        return room is None or tokens <= room

    def conversations(self) -> list[Conversation]:
        """What was said, none longer than they may get."""
        most = self._length
        return [Conversation(row.ids[:most], [(start, min(end, most)) for start, end in row.spans if start < most]) for row in self._rows]
