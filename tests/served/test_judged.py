from __future__ import annotations

from dataclasses import replace

import pytest

from driftcli.domain import Absent, Estimate
from driftcli.served.asking import Observed
from driftcli.served.foreseen import Otherwise
from driftcli.served.judged import Judged, judged
from driftcli.served.rounds import Explanation, Fit
from driftcli.served.server import Counts


def observed(rounds: list[tuple[int, int]], tokens: int = 61, kept: tuple[int, ...] | None = None) -> list[Observed]:
    """Replies of so many tokens, each with the server's rounds and the foreseen ones."""
    return [Observed(unit, tokens - 1, Counts(seen, kept, 4 * seen), Counts(own, kept, 4 * own)) for unit, (seen, own) in enumerate(rounds)]


def loss(found: Judged) -> Estimate:
    assert isinstance(found.lost, Estimate)
    return found.lost


def test_a_server_that_takes_the_foreseen_rounds_is_as_filed() -> None:
    found = judged(observed([(20, 20)] * 24), 4, 0)
    assert (found.standing, found.severity, found.same, found.units) == ("as filed", "healthy", 24, 24)
    # nothing seen in 24 prompts: 1 - 0.05 ** (1 / 24) of all may be otherwise
    assert (loss(found).value, loss(found).low, loss(found).high) == pytest.approx((0, -0.117346, 0.117346), abs=1e-6)


def test_what_is_lost_is_a_share_of_the_foreseen_accepted_draft_tokens() -> None:
    # 60 tokens in 20 rounds: 2 kept a round; in 30 rounds: 1 kept a round; so half is lost
    found = judged(observed([(30, 20)] * 12), 4, 0)
    assert loss(found).value == pytest.approx(0.5)
    assert (found.standing, found.severity) == ("otherwise", "moderate")  # 0.5 * (1 - 0.221) = 0.29 is surely lost
    assert found.server.value == pytest.approx(2.0) and found.run.value == pytest.approx(3.0)


def test_pooled_over_prompts_it_is_the_ratio_of_sums() -> None:
    rounds = [(20 + (number % 3), 20) for number in range(24)]
    server, run = 24 * 60 / sum(seen for seen, _ in rounds), 3.0
    assert loss(judged(observed(rounds), 4, 0)).value == pytest.approx(1 - (server - 1) / (run - 1))


def test_a_server_that_keeps_more_is_otherwise_too() -> None:
    found = judged(observed([(20, 30)] * 24), 4, 0)
    assert loss(found).value == pytest.approx(-1.0)
    assert (found.standing, found.severity) == ("otherwise", "mild")


def test_too_few_prompts_decide_nothing_and_it_is_said_how_many_would() -> None:
    few = judged(observed([(20, 20)] * 5), 4, 0)
    assert (few.standing, few.severity, few.more) == ("undecided", "inconclusive", 3)
    some = judged(observed([(20, 20)] * 10), 4, 0)
    assert (some.standing, some.more) == ("undecided", 9)  # 1 - 0.05 ** (1 / 19) is the first below 15%
    assert judged(observed([(20, 20)] * 19), 4, 0).standing == "as filed"


def test_positions_are_held_against_each_other_where_the_server_tells_them() -> None:
    found = judged(
        [Observed(unit, 30, Counts(20, (8, 2), 40), Counts(10, (8, 4), 20)) for unit in range(16)],
        2,
        0,
    )
    first, second = found.positions
    assert [first.server.value, first.run.value, first.more.value] == pytest.approx([0.4, 0.8, -0.4])
    assert [second.server.value, second.run.value, second.more.value] == pytest.approx([0.1, 0.4, -0.3])
    assert judged(observed([(20, 20)] * 16), 4, 0).positions == ()


def test_acceptance_that_falls_in_the_second_half_decays() -> None:
    rounds = [(20 + number % 2, 20) for number in range(12)] + [(28 + number % 2, 20) for number in range(12)]
    found = judged(observed(rounds), 4, 0)
    first = (12 * 60 / (6 * 20 + 6 * 21) - 1) / 2
    second = (12 * 60 / (6 * 28 + 6 * 29) - 1) / 2
    assert isinstance(found.decay, Estimate) and found.decay.value == pytest.approx(first - second)
    assert found.decays
    assert not judged(observed([(28, 20)] * 24), 4, 0).decays


def test_decay_is_not_judged_on_few_prompts() -> None:
    decay = judged(observed([(20, 20)] * 15), 4, 0).decay
    assert isinstance(decay, Absent) and "15 prompts are too few" in decay.reason


def test_a_difference_that_is_shown_and_counts_is_otherwise_though_its_interval_begins_below_what_counts() -> None:
    found = judged(observed([(24 if number % 3 else 20, 20) for number in range(12)]), 4, 0)
    assert 0 < loss(found).low < 0.15 and loss(found).value >= 0.05
    assert (found.standing, found.severity) == ("otherwise", "mild")


def test_a_small_difference_is_as_filed_unless_single_rounds_fit_another_wiring() -> None:
    small = judged(observed([(20 + number % 2, 20) for number in range(24)]), 4, 0)
    assert small.standing == "as filed" and loss(small).value == pytest.approx(1 - (60 / 20.5 - 1) / 2)
    assert small.is_puzzling and not judged(observed([(20, 20)] * 24), 4, 0).is_puzzling
    sure, filed = Estimate(1.0, 0.9, 1.0, 24), Estimate(0.7, 0.6, 0.8, 24)
    fit = Fit(Otherwise("wiring-rope-default", "the default rotation", "ROPE-MISMATCH", "", {}), sure, Estimate(0.3, 0.2, 0.4, 24))
    explained = Explanation(96, filed, filed, (fit,))
    assert (small.settled_by(explained).standing, small.settled_by(explained).severity) == ("otherwise", "mild")
    unsure = replace(explained, fits=(replace(fit, more=Estimate(0.1, -0.1, 0.3, 24)),))
    assert small.settled_by(unsure) == small.settled_by(replace(explained, fits=())) == small


def test_a_server_whose_draft_length_changes_is_never_as_filed() -> None:
    varying = [Observed(unit, 60, Counts(20, None, 50), Counts(20, None, 80)) for unit in range(24)]
    found = judged(varying, 4, 0)
    assert (found.standing, found.drafted) == ("undecided", 2.5)
