from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from driftcli.domain import Absent, Estimate
from driftcli.statistics.shift import (
    CAUSES,
    PARTS,
    STAGES,
    Shift,
    changed,
    common_tokens,
    length,
    parted_share,
    parting,
    signed,
)
from tests.probes.shifts import shifted


@pytest.mark.parametrize(
    ("first", "second", "place"),
    [
        ((1, 2, 3), (1, 2, 3), None),
        ((1, 2, 3), (1, 5, 3), 1),
        ((1, 2), (1, 2, 3), 2),
        ((1, 2, 3), (1, 2), 2),
        ((), (), None),
        ((), (4,), 0),
    ],
)
def test_replies_part_at_the_first_token_that_differs(first: tuple[int, ...], second: tuple[int, ...], place: int | None) -> None:
    assert parting(first, second) == place


def test_lengths_are_one_more_than_the_drafts_kept_a_round_and_changes_are_differences_that_add_up() -> None:
    shift = shifted(twin=60, streams=50, tokens=45, here=48)  # drafts kept on 20 rounds of every prompt
    assert [shift.estimate(length(stage)).value for stage in STAGES] == pytest.approx([4.0, 3.5, 3.25, 3.4])
    parts = [shift.change(before, after).value for _, before, after in PARTS]
    assert parts == pytest.approx([-0.5, -0.25, 0.15])
    whole = shift.change("twin", "here")
    assert isinstance(whole, Estimate) and whole.value == pytest.approx(-0.6)
    kept = shift.kept()
    assert isinstance(kept, Estimate) and kept.value == pytest.approx(48 / 60)


def test_shares_are_over_anchors_by_depth_and_over_replies() -> None:
    shift = shifted(drafted=(10, 20), wanted=(5, 0), lost={"both": (3, 4)}, parted=0.5, common=12)
    assert [one.value for one in shift.by_depth(changed("drafted"))] == pytest.approx([0.1, 0.2])
    assert [one.value for one in shift.by_depth(changed("wanted"))] == pytest.approx([0.05, 0.0])
    assert [one.value for one in shift.by_depth(changed("lost_both"))] == pytest.approx([0.03, 0.04])
    assert shift.estimate(parted_share).value == pytest.approx(0.5)
    assert shift.estimate(common_tokens).value == pytest.approx(12)


def test_nothing_differs_where_no_count_says_so() -> None:
    assert shifted().nothing_differs
    assert not shifted(wanted=(1, 0)).nothing_differs
    assert not shifted(parted=0.1).nothing_differs


def test_units_without_a_chain_with_either_target_are_left_out() -> None:
    shift = shifted(prompts=10)
    sums = {name: values.copy() for name, values in shift.sums.items()}
    sums["anchors"][0] = sums["here_rounds"][1] = 0
    kept = Shift(sums, "a", "b").kept()
    assert isinstance(kept, Estimate) and kept.n_prompts == 8
    none = Shift({name: np.zeros_like(values) for name, values in sums.items()}, "a", "b")
    assert isinstance(none.kept(), Absent) and isinstance(none.estimate(parted_share), Absent)


def test_too_few_prompts_give_a_number_without_an_interval() -> None:
    change = shifted(twin=60, here=48, prompts=7).change("twin", "here")
    assert isinstance(change, Absent) and change.value == pytest.approx(-0.6)
    assert signed(change) == "-0.60"
    assert signed(Absent("nothing")) == "unknown"
    assert signed(Estimate(-0.001, -0.2, 0.1, 9)) == "+0.00 [-0.20, +0.10]"


def test_causes_and_stages_are_named_once() -> None:
    assert len(set(CAUSES)) == 3
    assert [(before, after) for _, before, after in PARTS] == list(pairwise(STAGES))
