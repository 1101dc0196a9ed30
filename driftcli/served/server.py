"""What every kind of server is to us: something that answers token ids with token ids and counts rounds of speculative decoding.

A round is one verification: some draft tokens, of which the first so many are kept, and one token of the target's own. A reply of `n`
tokens is one token of the prompt's own step and then rounds; how many rounds it took says how many draft tokens helped, however a server
counts those that were kept behind a reply's end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from driftcli.errors import ServerError
from driftcli.served.http import Client, child, text, wholes


@dataclass(frozen=True, slots=True)
class Counts:
    """Rounds, and those that kept at least 1, 2, ... draft tokens; None where the server does not tell. drafted: draft tokens of all."""

    rounds: int
    kept_at: tuple[int, ...] | None = None
    drafted: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The token ids of a reply, and its own counts where the server sends them along."""

    tokens: tuple[int, ...]
    counts: Counts | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """What a server has counted since it started, over all requests and engines; tokens: of all replies."""

    counts: Counts
    tokens: int

    def since(self, before: Totals) -> Totals:
        """What has come since a reading before; raises ServerError where a counter went back."""
        own, past = self.counts, before.counts
        kept = None if own.kept_at is None or past.kept_at is None else _minus(own.kept_at, past.kept_at)
        drafted = None if own.drafted is None or past.drafted is None else own.drafted - past.drafted
        found = Totals(Counts(own.rounds - past.rounds, kept, drafted), self.tokens - before.tokens)
        if min(found.counts.rounds, found.tokens, drafted or 0, *(kept or (0,))) < 0:
            raise ServerError("the server's counters went back while it was asked: it was started again, or several servers answer in turn")
        return found


def _minus(own: tuple[int, ...], past: tuple[int, ...]) -> tuple[int, ...]:
    longest = max(len(own), len(past))
    padded = [(*one, *(0,) * (longest - len(one))) for one in (own, past)]
    return tuple(a - b for a, b in zip(*padded, strict=True))


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server is, as it says itself: its kind and version, the model's name, draft tokens a round, and the longest text it takes.

    counts_behind: draft tokens that are kept behind a reply's end are counted too. said: what else it says that matters here, by name.
    """

    kind: str
    version: str
    model: str
    drafts: int
    longest: int | None = None
    counts_behind: bool = False
    said: Mapping[str, str] | None = None


class Server(Protocol):
    """A running server that speculates."""

    @property
    def facts(self) -> Facts:
        """What it is."""

    def reply(self, ids: Sequence[int], most: int, *, greedy: bool = True) -> Reply:
        """Its reply to a prompt of token ids, of at most so many tokens, greedy or as it samples unless told; raises ServerError."""

    def totals(self) -> Totals | None:
        """What it has counted so far, None for one whose replies carry their own counts; raises ServerError."""


def named_model(client: Client) -> tuple[str, str, int | None]:
    """The first model that a server offers, who says so, and the longest text that it takes; raises ServerError where there is none."""
    found = client.find_json("/v1/models")
    first = child(found, "data", 0)
    name, longest = child(first, "id"), child(first, "max_model_len")
    if not isinstance(name, str):
        raise ServerError(f"{client.url}/v1/models: names no model; name the root of an OpenAI-compatible server")
    return name, text(child(first, "owned_by")), longest if isinstance(longest, int) and longest > 0 else None


def completed(client: Client, asked: Mapping[str, object]) -> tuple[object, tuple[int, ...]]:
    """The answer of `/v1/completions` and the token ids of its only reply; raises ServerError where it holds none."""
    answer = client.post("/v1/completions", asked)
    tokens = wholes(child(answer, "choices", 0, "token_ids"))
    if tokens is None:
        raise ServerError(
            f"{client.url}/v1/completions: the reply holds no token ids, expected a server that returns them; a newer version does"
        )
    return answer, tokens


def kept_at_least(histogram: tuple[int, ...] | None, rounds: int, drafts: int) -> tuple[int, ...] | None:
    """Rounds that kept at least 1, 2, ... draft tokens, from rounds by how many they kept; None where those are not all."""
    if histogram is None or sum(histogram) != rounds or any(histogram[drafts + 1 :]):
        return None
    padded = (*histogram, *(0,) * drafts)
    return tuple(sum(padded[place:]) for place in range(1, drafts + 1))
