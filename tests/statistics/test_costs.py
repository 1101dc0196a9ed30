from __future__ import annotations

import json
from itertools import product
from math import inf
from pathlib import Path
from random import Random

import numpy as np
import pytest

from driftcli.errors import SourceError, UsageError
from driftcli.statistics.costs import Costs, StepCosts, break_even_length, interpolated, pays_from, speed_up_of
from driftcli.statistics.costs_file import costs_json, costs_of_json, read_costs
from driftcli.statistics.turns import Turns
from driftcli.statistics.walks import Floats

STEPS = StepCosts(4, 3.0, 2.0, (10.0, 11.0, 13.0, 16.0))
READING = StepCosts(4, 3.0, 2.0, (10.0, 11.0, 13.0, 16.0), draft_read=0.5)
FILE = {"context": 512, "by_batch": [{"batch_size": 1, "draft_first": 0.3, "draft_step": 0.2, "verify": [1.0, 1.1, 1.2]}]}


def simulated(rounds: list[tuple[int, int]], costs: StepCosts) -> float:
    """Speed over plain decoding of (drafted, kept) rounds, a step at a time on a clock."""
    clock, tokens = 0.0, 0
    for drafted, kept in rounds:
        for number in range(drafted):
            clock += costs.draft_first if number == 0 else costs.draft_step
        clock += costs.draft_read * kept  # by the next round's first step
        clock += costs.verify[drafted]
        tokens += kept + 1
    return tokens * costs.verify[0] / clock


def speed_up(rounds: Floats, kept: Floats, costs: StepCosts, drafts: int) -> Floats:
    """Of rounds that all draft as much; (row,)."""
    return speed_up_of(np.multiply.outer(rounds, np.arange(drafts + 1) == drafts), kept, costs)


def some_rounds(seed: int, lengths: list[int]) -> list[tuple[int, int]]:
    random = Random(seed)
    return [(drafted, random.randint(0, drafted)) for drafted in random.choices(lengths, k=20)]


def test_a_round_costs_its_drafts_and_one_target_step_over_one_token_more() -> None:
    assert [STEPS.round_seconds(drafts) for drafts in range(4)] == [10.0, 14.0, 18.0, 23.0]
    assert STEPS.plain == 10.0


@pytest.mark.parametrize("costs", [STEPS, READING])
@pytest.mark.parametrize("drafts", [0, 1, 2, 3])
def test_the_speed_up_is_that_of_a_loop_on_a_clock(drafts: int, costs: StepCosts) -> None:
    rounds = [some_rounds(seed, [drafts]) for seed in range(6)]
    n, kept = np.full(6, 20.0), np.array([sum(kept for _, kept in one) for one in rounds], dtype=float)
    expected = np.array([simulated(one, costs) for one in rounds])
    np.testing.assert_allclose(speed_up(n, kept, costs, drafts), expected)


@pytest.mark.parametrize("costs", [STEPS, READING])
def test_the_speed_up_of_rounds_of_different_lengths_is_that_of_a_loop_on_a_clock(costs: StepCosts) -> None:
    rounds = [some_rounds(seed, [0, 1, 2, 3]) for seed in range(6)]
    counts = np.array([[sum(drafted == n for drafted, _ in one) for n in range(4)] for one in rounds], dtype=float)
    kept = np.array([sum(kept for _, kept in one) for one in rounds], dtype=float)
    np.testing.assert_allclose(speed_up_of(counts, kept, costs), [simulated(one, costs) for one in rounds])


@pytest.mark.parametrize("costs", [STEPS, READING])
@pytest.mark.parametrize("drafts", [1, 2, 3])
def test_speculation_at_the_break_even_length_is_as_fast_as_plain_decoding(drafts: int, costs: StepCosts) -> None:
    length = break_even_length(costs, drafts)
    assert speed_up(np.array([100.0]), np.array([100 * (length - 1)]), costs, drafts) == pytest.approx(1)


@pytest.mark.parametrize(
    ("costs", "words"),
    [
        (STEPS, "break-even at an acceptance length of 1.80"),
        (StepCosts(1, 9, 9, (1, 2, 3)), "slower than plain decoding even if every draft token were accepted"),
    ],
)
def test_what_cannot_pay_is_given_no_length(costs: StepCosts, words: str) -> None:
    assert words in pays_from(costs, 2)


def test_where_reading_a_token_costs_what_it_saves_no_length_pays() -> None:
    assert break_even_length(StepCosts(1, 3.0, 2.0, (10.0, 11.0), draft_read=10.0), 1) == inf


def test_without_a_round_there_is_no_speed() -> None:
    assert np.isnan(speed_up(np.zeros(1), np.zeros(1), STEPS, 2)).all()
    assert np.isnan(speed_up_of(np.zeros((1, 3)), np.zeros(1), STEPS)).all()


def test_more_drafts_than_were_measured_are_refused() -> None:
    with pytest.raises(UsageError, match=r"batch size 4: a round of 4 drafts verifies 5 tokens, .* up to 4; ask for at most 3 drafts"):
        STEPS.round_seconds(4)


def test_a_batch_size_that_was_not_measured_is_refused_with_those_that_were() -> None:
    costs = Costs("here", 512, (STEPS,))
    assert costs.of_batch(4) is STEPS
    with pytest.raises(UsageError, match="costs of here: hold no batch size 2, expected one of 4"):
        costs.of_batch(2)


@pytest.mark.parametrize(("first", "last"), list(product([1.0, 4.0], [2.0, 8.0])))
def test_steps_between_measured_ones_lie_on_a_line(first: float, last: float) -> None:
    step = (last - first) / 4
    assert interpolated({5: last, 1: first}) == pytest.approx([first + step * n for n in range(5)])


def test_costs_are_the_same_after_they_were_written_and_read(tmp_path: Path) -> None:
    costs = Costs("here, float32", 512, (READING, StepCosts(1, 0.0, 0.0, (1.0, 1.5, 1.5, 2.0))))
    assert costs_of_json(json.loads(json.dumps(costs_json(costs)))) == costs
    (tmp_path / "costs.json").write_text(json.dumps(costs_json(costs)))
    assert read_costs(tmp_path / "costs.json", 3) == costs


def test_turns_are_written_and_read_again_and_the_medians_follow_from_them(tmp_path: Path) -> None:
    turns = Turns(
        (1, 2, 4),
        np.array([[1.0, -0.1, 2.0, 10.0, 11.0, 14.0], [1.5, 0.25, 2.25, 10.5, 11.5, 14.5], [1.25, 0.125, 2.125, 10.25, 11.25, 14.25]]),
    )
    costs = Costs("here", 512, (StepCosts.timed(1, turns),))
    (tmp_path / "costs.json").write_text(json.dumps(costs_json(costs)))
    (again,) = read_costs(tmp_path / "costs.json", 3).by_batch
    assert (again.draft_first, again.draft_step, again.draft_read) == (1.25, 2.125, 0.125)
    assert again.verify == pytest.approx((10.25, 11.25, 12.75, 14.25))
    assert again.turns is not None and np.array_equal(again.turns.seconds, turns.seconds)


def test_times_that_cannot_be_are_told_and_small_falls_are_smoothed() -> None:
    assert StepCosts(1, 1.0, 1.0, (10.0, 11.0, 12.0)).doubt == ""
    fell = StepCosts(1, 1.0, 1.0, (10.0, 14.0, 12.0)).doubt
    assert fell == "a target step over 3 tokens took 1.2e+04 ms, one over 2 tokens 1.4e+04 ms, beyond noise"
    assert "pay without a single draft kept" in StepCosts(1, 0.0, 0.0, (10.0, 9.5)).doubt


def test_a_file_without_a_source_is_its_own_and_may_leave_out_steps(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    batch = {"batch_size": 8, "draft_first": 2, "draft_step": 0, "verify": {"9": 3, "1": 1, "5": 2.0}}
    path.write_text(json.dumps({"context": 512, "by_batch": [batch]}))
    costs = read_costs(path, 8)
    assert costs.source == str(path)
    assert costs.of_batch(8).verify == pytest.approx([1, 1.25, 1.5, 1.75, 2, 2.25, 2.5, 2.75, 3])


TURNS = {"draft_first": [1.0, 1.0], "draft_read": [0.0, -0.1], "draft_step": [1.0, 2.0], "verify": {"1": [1.0, 1.0], "3": [1.0, 2.0]}}


def changed(**changes: object) -> str:
    return json.dumps({**FILE, **changes})


def batch(**changes: object) -> str:
    return changed(by_batch=[{**FILE["by_batch"][0], **changes}])  # type: ignore[index]


MALFORMED = {
    "": "no JSON .*, expected an object of step costs",
    "[" * 100_000: "no JSON",
    "[1]": r"saw \[1\], expected an object with source, context, by_batch",
    '{"context": 512}': "has no by_batch, expected context, by_batch; add it",
    changed(speed=1): "unknown key 'speed', expected only source, context, by_batch",
    changed(source=1): "source: saw 1, expected a text",
    changed(context=0): "context: saw 0, expected a positive whole number",
    changed(context=512.0): "context: saw 512.0, expected a positive whole number",
    changed(context=True): "context: saw True, expected a positive whole number",
    changed(by_batch=[]): r"by_batch: saw \[\], expected a list of objects with batch_size, draft_first, draft_step, verify",
    changed(by_batch={}): r"by_batch: saw \{\}, expected a list",
    changed(by_batch=[3]): r"by_batch\[0\]: saw 3, expected an object",
    changed(by_batch=FILE["by_batch"] * 2): "by_batch: batch_size 1 stands there twice",  # type: ignore[operator]
    changed(by_batch=[{"batch_size": 1}]): r"by_batch\[0\]: has no draft_first, expected",
    batch(batch_size="1"): r"by_batch\[0\].batch_size: saw '1', expected a positive whole number",
    batch(draft_first=-1): r"by_batch\[0\].draft_first: saw -1, expected seconds, 0 or a positive number",
    batch(draft_read=-0.1): r"by_batch\[0\].draft_read: saw -0.1, expected seconds, 0 or a positive number",
    batch(draft_step="fast"): r"draft_step: saw 'fast', expected seconds",
    batch(draft_step=float("nan")): "draft_step: saw nan, expected seconds",
    batch(draft_step=float("inf")): "draft_step: saw inf, expected seconds",
    batch(draft_step=10**400): "draft_step: saw 1000.*, expected seconds",
    batch(verify=[]): r"verify: saw \[\], expected seconds of steps over 1, 2, ... tokens",
    batch(verify=1.0): "verify: saw 1.0, expected seconds of steps",
    batch(verify=[1.0, 0, 2.0]): r"verify\[1\]: saw 0, expected seconds, a positive number",
    batch(verify={"2": 1.0, "4": 1.0}): 'verify: has no step of 1 token, expected key "1"',
    batch(verify={"1": 1.0, "4.5": 1.0}): "verify, key: saw '4.5', expected a number of tokens from 1 to 9999",
    batch(verify={"1": 1.0, "4": None}): "verify.4: saw None, expected seconds",
    batch(verify={"1": 1.0, "01": 1.0}): "verify, key: saw '01', expected a number of tokens",
    batch(verify={"1": 1.0, "9999999999": 1.0}): "verify, key: saw '9999999999', expected a number of tokens",
    batch(turns=[1]): r"by_batch\[0\].turns: saw \[1\], expected an object with draft_first, draft_read, draft_step, verify",
    batch(turns={**TURNS, "verify": {"2": [1.0]}}): r'turns.verify: saw .*, expected an object by number of tokens, with "1" among them',
    batch(turns={**TURNS, "draft_step": [1.0]}): r"turns.draft_step: holds another number of turns than draft_first, expected 2",
    batch(turns={**TURNS, "draft_first": []}): r"turns.draft_first: saw \[\], expected a list of seconds, one a turn",
    batch(turns={**TURNS, "draft_read": [0.0, float("nan")]}): "turns.draft_read: saw nan, expected seconds, a finite number",
    batch(turns={**TURNS, "verify": {"1": [1.0, 0], "3": [1.0, 2.0]}}): r"turns.verify.1\[1\]: saw 0, expected seconds, a positive number",
    batch(verify=[1.0, 1.1]): "verify: holds steps of up to 2 tokens, expected up to 3 for 2 drafts; measure deeper or lower --depth",
    batch(verify={"1": 1.0, "2": 1.1}): "verify: holds steps of up to 2 tokens, expected up to 3 for 2 drafts",
}


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_file_is_refused_with_its_name_and_what_is_wrong(text: str, tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    path.write_text(text)
    with pytest.raises(SourceError, match=MALFORMED[text]) as refused:
        read_costs(path, 2)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.json: cannot be read"):
        read_costs(tmp_path / "none.json", 2)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError, match=r"bytes\.json: no JSON"):
        read_costs(tmp_path / "bytes.json", 2)
