from __future__ import annotations

from itertools import product

import pytest

from driftcli.comparison.words import BAND, WIDE, WORDS, Better, Word, prompts_to_settle, word_of
from driftcli.domain import Absent, Estimate
from driftcli.terms import BY_WORDS, plain

FEW = Absent("3 prompts with a chain, at least 8 are needed", 0.3, 3)
MIRRORED = {"improved": "regressed", "regressed": "improved"}


def change(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, 24)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.02, 0.02, "equal"),  # the band itself is inside
        (0.001, 0.02, "equal"),  # a change that is shown and does not matter
        (0.001, 0.021, "improved"),
        (0.03, 0.2, "improved"),
        (-0.2, -0.001, "regressed"),
        (-0.021, 0.02, "no difference seen"),
        (0.0, 0.05, "no difference seen"),
        (-0.05, 0.05, "no difference seen"),
        (-0.051, 0.001, "cannot tell"),
        (-0.3, 0.3, "cannot tell"),
    ],
)
def test_a_change_is_called_by_where_its_interval_lies_against_0_and_the_band(low: float, high: float, word: Word) -> None:
    assert word_of(change(low, high), "higher", BAND) == word
    assert pytest.approx(2.5) == WIDE


def test_too_few_prompts_for_an_interval_cannot_tell_and_need_at_least_eight() -> None:
    assert word_of(FEW, "higher", BAND) == "cannot tell"
    assert prompts_to_settle(FEW, "cannot tell", BAND) == 5


@pytest.mark.parametrize(
    ("low", "width", "better"), list(product((-0.3, -0.06, -0.04, -0.01, 0.0, 0.005), (0.01, 0.05, 0.1), ("higher", "lower")))
)
def test_runs_in_the_other_order_get_the_mirrored_word_and_as_many_prompts(low: float, width: float, better: Better) -> None:
    one, other = change(low, low + width), change(-low - width, -low)
    word, swapped = (word_of(own, better, BAND) for own in (one, other))
    assert swapped == MIRRORED.get(word, word)
    assert prompts_to_settle(one, word, BAND) == prompts_to_settle(other, swapped, BAND)


def test_a_number_of_which_less_is_better_improves_by_falling() -> None:
    assert word_of(change(-0.2, -0.1), "lower", BAND) == "improved"


def test_prompts_to_settle_shrink_the_interval_until_it_fits() -> None:
    """No change seen, 24 prompts, half a width of 3%: to fit 2% in four of five runs it must shrink by 0.02 / 0.03 / (1 + 0.84 / 1.96)."""
    times = (0.03 / 0.02 * (1 + 0.84 / 1.96)) ** 2
    assert prompts_to_settle(change(-0.03, 0.03), "no difference seen", BAND) == 10 * -(-(times - 1) * 24 // 10)
    assert prompts_to_settle(change(-0.5, 0.5), "cannot tell", BAND) is None  # more than ten times as many
    assert prompts_to_settle(change(-0.01, 0.01), "equal", BAND) is None


def test_where_no_prompt_differs_the_interval_shrinks_with_their_number_and_not_with_its_root() -> None:
    """From 15% to 5% by three times the 24 prompts, from 3% to the band by half as many more; either side may be the longer one."""
    assert prompts_to_settle(change(-0.15, 0.15), "cannot tell", BAND, none_differs=True) == 50  # 48, to the next ten
    assert prompts_to_settle(Estimate(0.0, -0.15, 0.01, 24), "cannot tell", BAND, none_differs=True) == 50
    assert prompts_to_settle(change(-0.03, 0.03), "no difference seen", BAND, none_differs=True) == 12
    assert prompts_to_settle(change(-0.6, 0.6), "cannot tell", BAND, none_differs=True) is None  # more than ten times as many
    assert prompts_to_settle(change(-0.01, 0.01), "equal", BAND, none_differs=True) is None


def test_every_word_is_explained() -> None:
    assert {BY_WORDS[plain(word)].name for word in WORDS} == {"improved, regressed, equal, no difference seen, cannot tell"}
