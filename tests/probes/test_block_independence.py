from __future__ import annotations

from dataclasses import replace

import pytest

from driftcli.domain import SIDE_BY_SIDE, Sourced
from driftcli.testing import Head, compute_probe, pair_card
from probes.block_independence import BlockIndependence

BLOCKS = replace(pair_card(no_recursion="it guesses a block in one pass"), family="block")


@pytest.mark.parametrize(
    ("forced", "severity"),
    [((80, 70, 60, 40), "severe"), ((80, 76, 70, 64), "moderate"), ((80, 79, 78, 78), None)],  # 50%, 20% and 2% of 80 are lost
)
def test_what_guessing_side_by_side_costs_is_graded_at_the_deepest_guess(forced: tuple[int, ...], severity: str | None) -> None:
    found = compute_probe(BlockIndependence(), head=Head(forced=forced), pair=BLOCKS).findings.values()
    assert [finding.severity for finding in found] == ([severity] if severity else [])
    for finding in found:
        assert finding.code == "BLOCK-GAP"
        assert f"{forced[-1]}% in the block, 80% as the first of one" in finding.claim


def test_a_drafter_that_corrects_its_block_already_is_not_told_to_become_one() -> None:
    for correction, advised in (("none", "DSpark, DFlash2"), ("vanilla", "wins back too little")):
        pair = replace(BLOCKS, record={**BLOCKS.record, "correction": Sourced(correction, "tensor")})
        (found,) = compute_probe(BlockIndependence(), head=Head(forced=(80, 70, 60, 40)), pair=pair).findings.values()
        assert found.fix is not None and advised in found.fix
        assert pair.corrects_blocks == (correction != "none")


def test_nothing_is_said_of_chains_or_of_a_drafter_that_knows_too_little() -> None:
    loss = Head(forced=(80, 60, 40, 20))
    assert compute_probe(BlockIndependence(), head=loss, pair=pair_card()).codes == []
    assert compute_probe(BlockIndependence(), head=loss, pair=pair_card(no_recursion="a causal language model")).codes == []
    weak = Head(fresh=(8, 8, 8, 8), forced=(8, 6, 4, 2))
    assert compute_probe(BlockIndependence(), head=weak, pair=BLOCKS).codes == []


def test_heads_of_one_depth_each_are_held_against_the_first_in_words_of_their_own() -> None:
    heads = replace(BLOCKS, family="feed-forward", record={"guesses": Sourced(SIDE_BY_SIDE, "tensor")})
    assert heads.guesses_side_by_side
    found = compute_probe(BlockIndependence(), head=Head(forced=(80, 70, 60, 40)), pair=heads).findings["BLOCK-GAP"]
    assert "40% by the head of that depth, 80% by the first one" in found.claim and "Hydra" in found.fix
    other = replace(heads, record={"guesses": Sourced("one after the other", "tensor")})
    assert compute_probe(BlockIndependence(), head=Head(forced=(80, 70, 60, 40)), pair=other).codes == []
