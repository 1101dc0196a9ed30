from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from driftcli.errors import SourceError, UsageError
from driftcli.statistics.costs import Costs, RoundCosts, TimedIn, break_even_length, pays_from, speed_up_of
from driftcli.statistics.costs_file import costs_json, costs_of_json, read_costs
from driftcli.statistics.intervals import DRAWS
from driftcli.statistics.round_turns import RoundTurns
from tests.statistics.test_costs import speed_up

LENGTHS = (0, 1, 2, 4)
TRUE = (10.0, 13.0, 14.0, 18.0)
ROUNDS = RoundCosts(1, (10.0, 13.0, 14.0, 16.0, 18.0))
ENGINE = TimedIn("vllm", "0.32.0", "x86_64", "float32", 1, "enforce_eager=True")


def turns(noise: float, seed: int = 0, count: int = 24, true: tuple[float, ...] = TRUE) -> RoundTurns:
    return RoundTurns(LENGTHS, np.array(true) * np.exp(np.random.default_rng(seed).normal(0, noise, (count, len(true)))))


def test_the_point_is_the_medians_and_lengths_between_timed_ones_lie_on_a_line() -> None:
    timed = RoundCosts.timed(1, turns(0.0))
    assert timed.rounds == pytest.approx((10, 13, 14, 16, 18))
    assert (timed.plain, timed.deepest, timed.round_seconds(3)) == (pytest.approx(10), 4, pytest.approx(16))


@pytest.mark.parametrize("drafts", [1, 2, 4])
def test_the_speed_up_is_that_of_a_clock_that_counts_whole_rounds(drafts: int) -> None:
    """Plain decoding of as many tokens against so many rounds: 30 rounds that keep 45 draft tokens commit 75."""
    seconds_of_rounds, seconds_of_plain = 30 * ROUNDS.rounds[drafts], 75 * 10.0
    found = speed_up(np.array([30.0]), np.array([45.0]), ROUNDS, drafts)  # type: ignore[arg-type]
    assert found == pytest.approx([seconds_of_plain / seconds_of_rounds])


def test_rounds_of_different_lengths_add_up_and_one_without_drafts_is_a_plain_step() -> None:
    found = speed_up_of(np.array([[3.0, 1.0, 0.0, 0.0, 2.0]]), np.array([5.0]), ROUNDS)
    assert found == pytest.approx([(6 + 5) * 10 / (3 * 10 + 13 + 2 * 18)])


@pytest.mark.parametrize("drafts", [1, 2, 3, 4])
def test_speculation_at_the_break_even_length_is_as_fast_as_plain_decoding(drafts: int) -> None:
    kept = 1000 * (break_even_length(ROUNDS, drafts) - 1)
    assert speed_up(np.array([1000.0]), np.array([kept]), ROUNDS, drafts) == pytest.approx([1.0])  # type: ignore[arg-type]
    assert pays_from(ROUNDS, drafts) == f"break-even at an acceptance length of {ROUNDS.rounds[drafts] / 10:.2f}"


def test_draws_of_the_turns_cover_the_true_speed_and_their_halves_are_apart() -> None:
    inside = 0
    for seed in range(100):
        timed = RoundCosts.timed(1, turns(0.1, seed))
        drawn = speed_up(np.full(DRAWS, 100.0), np.full(DRAWS, 100.0), timed, 4)  # type: ignore[arg-type]
        low, high = np.percentile(drawn, (2.5, 97.5))
        inside += bool(low <= 200 * 10 / (100 * 18) <= high)
    assert inside >= 90
    many = turns(0.1)
    assert np.array_equal(many.halves["judging"].seconds, many.seconds[1::2])
    assert turns(0.1, count=5).halves["judging"].seconds.shape == (5, 4)


def test_a_round_of_more_draft_tokens_that_is_surely_faster_is_doubted_and_noise_is_not() -> None:
    fell = RoundCosts.timed(1, turns(0.05, true=(10.0, 13.0, 9.0, 18.0))).doubt
    assert fell.startswith("a round of 2 draft tokens took ") and fell.endswith("beyond noise")
    assert RoundCosts.timed(1, turns(0.3)).doubt == ""
    assert "a step of plain decoding 10 ms" in RoundCosts(1, (0.010, 0.008)).doubt
    assert RoundCosts(1, (10.0, 9.9)).doubt == ""


def test_rounds_beyond_those_that_were_timed_are_refused() -> None:
    with pytest.raises(UsageError, match="rounds are known up to 4 draft tokens and 5 are asked for"):
        speed_up(np.array([1.0]), np.array([0.0]), ROUNDS, 5)  # type: ignore[arg-type]


def test_rounds_are_read_as_they_were_written_with_the_engine(tmp_path: Path) -> None:
    given = Costs("here", 512, (RoundCosts.timed(1, turns(0.1)), RoundCosts(8, (1.0, 2.0))), ENGINE)
    (tmp_path / "costs.json").write_text(json.dumps(costs_json(given)))
    again = read_costs(tmp_path / "costs.json", 1)
    assert again == given and again.engine == ENGINE
    timed = again.by_batch[0]
    assert isinstance(timed, RoundCosts) and timed.turns is not None
    assert np.array_equal(timed.turns.seconds, turns(0.1).seconds) and timed.turns.lengths == LENGTHS
    with pytest.raises(SourceError, match=r"by_batch\[1\].rounds: holds rounds of up to 1 draft tokens, expected up to 3"):
        read_costs(tmp_path / "costs.json", 3)


def test_some_lengths_are_enough_for_those_between() -> None:
    found = costs_of_json({"context": 1, "by_batch": [{"batch_size": 1, "rounds": {"4": 18, "0": 10, "2": 14}}]})
    assert found.by_batch[0] == RoundCosts(1, (10.0, 12.0, 14.0, 16.0, 18.0))


WRONG = {
    json.dumps({"rounds": {"1": 1.0, "2": 2.0}}): r"rounds: saw .*, expected an object by number of draft tokens, with \"0\"",
    json.dumps({"rounds": {"0": 1.0}}): "and at least another",
    json.dumps({"rounds": [1.0, 2.0]}): r"rounds: saw \[1.0, 2.0\], expected an object",
    json.dumps({"rounds": {"0": 1.0, "-1": 2.0}}): "rounds, key: saw '-1', expected a number of draft tokens",
    json.dumps({"rounds": {"0": 1.0, "1": 0}}): r"rounds.1: saw 0, expected seconds, a positive number",
    json.dumps({"rounds": {"0": 1.0, "1": 2.0}, "verify": [1.0]}): "unknown key 'verify', expected only batch_size, rounds, turns",
    json.dumps({"rounds": {"0": 1.0, "1": 2.0}, "turns": {"0": [1.0], "1": [1.0, 2.0]}}): r"turns.1: holds another number of turns than 0",
    json.dumps({"rounds": {"0": 1.0, "1": 2.0}, "turns": {"0": [1.0], "1": ["x"]}}): r"turns.1\[0\]: saw 'x', expected seconds",
}


@pytest.mark.parametrize("batch", WRONG)
def test_wrong_rounds_are_refused_by_key_in_a_sentence(batch: str) -> None:
    with pytest.raises(SourceError, match=WRONG[batch]):
        costs_of_json({"context": 1, "by_batch": [{"batch_size": 1, **json.loads(batch)}]})


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"name": "vllm"}, "engine: has no version"),
        ({**costs_json(Costs("x", 1, (), ENGINE))["engine"], "threads": 0}, "engine.threads: saw 0"),  # type: ignore[dict-item]
        ({**costs_json(Costs("x", 1, (), ENGINE))["engine"], "dtype": 3}, "engine: saw 3, expected texts"),  # type: ignore[dict-item]
    ],
)
def test_a_wrong_engine_is_refused(engine: object, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        costs_of_json({"context": 1, "engine": engine, "by_batch": [{"batch_size": 1, "rounds": {"0": 1, "1": 2}}]})
