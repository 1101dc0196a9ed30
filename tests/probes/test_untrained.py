from __future__ import annotations

from dataclasses import replace

from driftcli.probe import UNTRAINED, trained
from driftcli.testing.facts import pair_card


def test_nobody_is_told_to_train_a_lookup() -> None:
    card = pair_card(no_recursion="it copies")
    assert trained(card, "train on longer replies") == "train on longer replies"
    assert trained(replace(card, family="lookup"), "train on longer replies") == UNTRAINED
