from __future__ import annotations

from dataclasses import replace

from driftcli.domain import Finding, Sound, Sourced, Withheld
from driftcli.testing import Facts, Head, pair_card
from probes.position_range import PositionRange

PAIR = replace(pair_card(), record={**pair_card().record, "max_position_embeddings": Sourced(64, "config:max_position_embeddings")})


def test_texts_within_the_range_are_sound() -> None:
    (said,) = PositionRange().judge(Facts(pair=PAIR, lengths=(20, 64)))
    assert said == Sound("wiring", "all texts lie within the 64 positions that the drafter declares")


def test_texts_past_the_range_are_found_and_a_fall_beyond_it_is_moderate() -> None:
    for beyond, severity in (((80, 72, 72, 72), "mild"), ((40, 30, 30, 30), "moderate")):
        found, withheld = PositionRange().judge(Facts(pair=PAIR, lengths=(20, 100), beyond=Head(fresh=beyond)))
        assert isinstance(found, Finding) and isinstance(withheld, Withheld)
        assert (found.code, found.severity) == ("POS-RANGE", severity)
        assert found.claim == (
            f"texts of up to 100 tokens run past the 64 positions that the drafter declares: the first draft token is right {beyond[0]}% of the time beyond, 80% within"
        )
        assert withheld.reason.startswith("100% of the positions lie past the 64 positions")


def test_a_drafter_that_declares_no_range_is_not_asked() -> None:
    assert list(PositionRange().judge(Facts(pair=pair_card()))) == []
