from __future__ import annotations

from collections.abc import Callable

import pytest

from driftcli.engine import timing
from driftcli.engine.timing import StepTimer, measure_costs, step_lengths
from driftcli.errors import RunError
from driftcli.loading.pair import LoadedPair
from driftcli.statistics.costs import StepCosts


@pytest.mark.parametrize("name", ["post", "lm"])
def test_every_step_of_every_batch_size_has_its_seconds(
    name: str, pair: Callable[[str], LoadedPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    told: list[str] = []
    costs = measure_costs(pair(name), [1, 3], 10, 24, told.append)
    assert told == [f"timing single steps, batch {size}, repetition {number} of up to 25" for size in (1, 3) for number in range(1, 7)]
    assert costs.context == 24
    assert costs.source.endswith("float32, threads: 1")
    assert [one.batch_size for one in costs.by_batch] == [1, 3]
    for one in costs.by_batch:
        assert len(one.verify) == 11
        assert min(one.draft_first, one.draft_step, *one.verify) > 0


def test_a_context_shorter_than_a_round_is_measured_too(pair: Callable[[str], LoadedPair], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    assert len(measure_costs(pair("pre"), [1], depth=6, context=2).of_batch(1).verify) == 7


def test_the_seconds_of_steps_that_are_not_timed_lie_on_the_line_between_their_neighbours(
    pair: Callable[[str], LoadedPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    verify = measure_costs(pair("pre"), [1], depth=14, context=8).of_batch(1).verify
    step = (verify[12] - verify[8]) / 4
    assert verify[9:12] == pytest.approx([verify[8] + step, verify[8] + 2 * step, verify[8] + 3 * step])


@pytest.mark.parametrize("depth", [1, 3, 8])
def test_medians_are_of_each_kind_of_step(depth: int, pair: Callable[[str], LoadedPair], clock: Callable[..., None]) -> None:
    clock(timing)
    timer = StepTimer(pair("post"), 2, depth, context=24)
    timer.turn()
    timer.turn()
    assert timer.turns == 2
    assert timer.costs() == StepCosts(2, 3.0, 2.0, tuple(10.0 + tokens for tokens in range(1, depth + 2)), 0.5)


@pytest.mark.parametrize(
    ("depth", "lengths"),
    [
        (1, [1, 2]),
        (8, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (9, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (18, [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 17, 19]),
    ],
)
def test_short_steps_are_all_timed_and_of_long_ones_every_fourth_and_the_last(depth: int, lengths: list[int]) -> None:
    assert step_lengths(depth) == lengths


def test_more_sequences_than_memory_holds_are_refused_before_any_step(pair: Callable[[str], LoadedPair]) -> None:
    with pytest.raises(
        RunError, match=r"--batch-sizes 100000000: keys and values of so many sequences would take [\d,]+ GiB, \d+ GiB are free; ask"
    ):
        measure_costs(pair("pre"), [1, 100_000_000], 3, 20)
