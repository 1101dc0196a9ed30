"""Conversations to train on: one file, JSON Lines, with `ids`, a whole conversation as token ids, and `spans`, where each reply begins and
ends in it (half-open, its end token included).
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from driftcli.errors import FormatError, SourceError

T = TypeVar("T")
Turn = Literal["user", "reply"]  # whose turn it is


@dataclass(frozen=True)
class Conversation:
    """Token ids, and the half-open spans of them that the target wrote as replies."""

    ids: list[int]
    spans: list[tuple[int, int]]


def read_conversations(path: Path, vocabulary: int) -> list[Conversation]:
    """Conversations from JSON Lines, gzipped or not: `ids` with `spans`, or with `prompt_length` where all that follows is one reply.

    Raises SourceError for a file that cannot be read and FormatError, with the line, for ids outside the vocabulary or spans outside ids.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            rows = [(number, json.loads(line)) for number, line in enumerate(lines, 1) if line.strip()]
    except (OSError, EOFError, ValueError) as error:
        raise SourceError(
            f"{path}: cannot be read as JSON Lines ({error}); expected conversations, or --write-replies to have them"
        ) from error
    found = [_conversation(f"{path}, line {number}", row, vocabulary) for number, row in rows]
    if not found:
        raise FormatError(f"{path}: holds no conversation, expected one a line")
    return found


def _conversation(where: str, row: Any, vocabulary: int) -> Conversation:
    try:
        ids = [int(token) for token in row["ids"]]
        spans = [(int(start), int(end)) for start, end in row.get("spans") or [(row["prompt_length"], len(ids))]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{where}: expected an object with ids and spans or prompt_length ({error!r}); write it again") from error
    if not ids or min(ids) < 0 or max(ids) >= vocabulary:
        raise FormatError(f"{where}: its ids are not tokens of a vocabulary of {vocabulary}; name replies of this target")
    if not all(0 <= start < end <= len(ids) for start, end in spans):
        raise FormatError(f"{where}: spans {spans} do not lie inside {len(ids)} tokens; write it again")
    return Conversation(ids, spans)


def write_conversations(path: Path, conversations: Sequence[Conversation]) -> None:
    """Write JSON Lines, gzipped where the name says so, aside and renamed."""
    aside, opener = path.with_name(f"{path.name}.tmp"), gzip.open if path.suffix == ".gz" else open
    with opener(aside, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(vars(conversation)) + "\n" for conversation in conversations)
    aside.rename(path)


def digest(content: Any) -> str:
    """Hash of anything that JSON holds, 16 hex digits."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def packed(rows: Sequence[T], length: Callable[[T], int], tokens: int) -> list[list[T]]:
    """Rows, the shortest first, dealt into batches of at most `tokens` padded tokens; a longer row is a batch of its own."""
    found: list[list[T]] = []
    for row in rows:
        if not found or (len(found[-1]) + 1) * length(row) > tokens:
            found.append([])
        found[-1].append(row)
    return found
