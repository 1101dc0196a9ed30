"""How many draft tokens a drafter's chains may have, for pairs that are loaded and pairs of which only the headers were read."""

from __future__ import annotations

from collections.abc import Iterator

from driftcli.domain import PairCard
from driftcli.errors import UsageError
from driftcli.families.block.readings import FILL_IN
from driftcli.printable import counted


def require_depth(card: PairCard, depth: int, modules: int) -> None:
    """UsageError for chains deeper than a drafter has heads, one a depth, or than it was trained to guess in one pass.

    modules: of an MTP head with weights of its own for every depth, 1 for any other drafter.
    """
    for most, why in _limits(card, modules):
        if depth > most:
            raise UsageError(f"--depth {depth}: {card.drafter.name} {why}; use --depth {most}")


def _limits(card: PairCard, modules: int) -> Iterator[tuple[int, str]]:
    if card.family == "block":
        most = _number(card, "block_size") - (card.record["slots"].value == FILL_IN)
        yield most, f"was trained to guess {most} tokens a block, and nobody knows what longer ones give"
    if "trained_depths" in card.record:
        most = _number(card, "trained_depths")
        yield most, f"was trained to guess up to {most} tokens in one pass, and nobody knows what more rows give"
    if most := card.deepest or (modules if modules > 1 else 0):
        yield most, f"has {counted(most, 'head')}, one a depth, so no chain is deeper"


def _number(card: PairCard, name: str) -> int:
    value = card.record[name].value
    assert isinstance(value, int)
    return value
