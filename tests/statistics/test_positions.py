from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from driftcli.domain import Absent, Estimate
from driftcli.statistics.positions import NOT_REACHED, Replies, accepted, bin_of, doubling, no_replies, prompt_side, rms_ratio
from driftcli.statistics.walks import MINIMAL_PROMPTS

HARD = ((64, 32, 32), (64, 32, 32))  # anchors, rounds and kept drafts by bin: one draft a round, early and late
EASY = ((64, 16, 48), (16, 4, 12))  # three a round, and a short late part
FALLING = ((64, 20, 40), (32, 10, 10))  # two a round, then one
SHORT = ((64, 10, 50), (0, 0, 0))


def replies(kinds: Sequence[Sequence[Sequence[float]]], times: int = 10) -> Replies:
    """So many prompts with one reply of each kind; no two prompts are alike to the last digit."""
    counts = np.array([kind for _ in range(times) for kind in kinds], dtype=float)
    unit = np.repeat(np.arange(times), len(kinds))
    counts[:, :, 2] *= 1 + 1e-9 * (unit % 7)[:, None]
    names = ("anchors", "rounds", "kept")
    return Replies({name: counts[:, :, place] for place, name in enumerate(names)}, unit, np.zeros(len(unit), dtype=bool), depth=8)


def value(found: Estimate | Absent) -> float:
    assert isinstance(found, Estimate), found
    return found.value


def test_bins_double_from_64_places_on() -> None:
    assert doubling(64) == [(0, 64)]
    assert doubling(65) == [(0, 64), (64, 128)]
    assert doubling(1025) == [(0, 64), (64, 128), (128, 256), (256, 512), (512, 1024), (1024, 2048)]
    assert bin_of(np.array([0, 63, 64, 127, 128, 255, 256])).tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert not len(bin_of(np.zeros(0, dtype=int)))


def test_a_fall_within_replies_is_told_whatever_the_short_ones_did() -> None:
    found = replies([FALLING, SHORT])
    assert value(found.against_first(1, accepted)) == pytest.approx(0.5)
    assert value(found.acceptance_length(0)) == pytest.approx(1 + (40 + 50) / (20 + 10))
    assert value(found.acceptance_length(1)) == pytest.approx(2)


def test_easy_replies_that_end_early_are_no_fall() -> None:
    """Pooled, 1.67 drafts a round early and 1.22 late; reply by reply nothing falls."""
    found = replies([HARD, EASY])
    assert value(found.acceptance_length(0)) == pytest.approx(1 + 80 / 48)
    assert value(found.acceptance_length(1)) == pytest.approx(1 + 44 / 36)
    assert value(found.against_first(1, accepted)) == pytest.approx(1)


def test_prompts_count_and_not_replies() -> None:
    found = replies([FALLING, HARD]).against_first(1, accepted)
    assert isinstance(found, Estimate)
    assert found.n_prompts == 10
    few = replies([FALLING] * 5, times=MINIMAL_PROMPTS - 1).against_first(1, accepted)
    assert isinstance(few, Absent)
    assert few.value == pytest.approx(0.5)
    assert few.n_prompts == MINIMAL_PROMPTS - 1


def test_intervals_for_several_parts_at_once_are_wider() -> None:
    found = replies([FALLING])
    kept = found.sums["kept"] * np.where(np.arange(10) % 2, 0.9, 1.1)[:, None] ** np.array([0, 1])
    spread = replace(found, sums={**found.sums, "kept": kept})
    one, three = (spread.against_first(1, accepted, tries=tries) for tries in (1, 3))
    assert isinstance(one, Estimate) and isinstance(three, Estimate)
    assert three.low < one.low < one.high < three.high


def test_replies_that_reach_a_part_and_those_that_ended_before_are_counted() -> None:
    found = replies([FALLING, SHORT, SHORT], times=2)
    ended = replace(found, ended=np.array([True, True, False, True, False, False]))
    assert [found.reached(number) for number in (0, 1)] == [6, 2]
    assert [ended.ended_before(number) for number in (0, 1)] == [0, 1]  # the others were cut, or reach it


def test_states_and_attention_are_over_queries_of_depth_two_and_deeper() -> None:
    sums = {"own_rms": np.array([30.0]), "control_rms": np.array([20.0]), "prompt_side": np.array([3.0]), "deep": np.array([12.0])}
    assert rms_ratio(sums) == pytest.approx(1.5)
    assert prompt_side(sums) == pytest.approx(0.25)


def test_what_nobody_reaches_and_what_a_drafter_has_not_is_absent() -> None:
    assert replies([SHORT]).against_first(1, accepted) == Absent(NOT_REACHED)
    assert replies([SHORT]).acceptance_length(1) == Absent(NOT_REACHED)
    assert no_replies(8).bins == []
    found = replies([FALLING])
    without = replace(found, sums={**found.sums, **dict.fromkeys(("own_rms", "control_rms"), np.full((10, 2), np.nan))})
    assert isinstance(without.against_first(1, rms_ratio), Absent)
    assert isinstance(without.estimate(1, rms_ratio), Absent)
