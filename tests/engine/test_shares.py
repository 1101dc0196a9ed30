from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from driftcli.conditions import BASELINE, Condition, DraftSettings, TextSettings
from driftcli.engine.agenda import sharing_texts
from driftcli.engine.shares import Unit, stages

BARE, FILLED = TextSettings(template="none"), TextSettings(length=64)
SETTINGS = DraftSettings(4)
CONDITIONS = [
    Condition(BASELINE, SETTINGS, full=True),
    *(Condition(f"own-{number}", SETTINGS, "some") for number in range(5)),
    Condition("bare", SETTINGS, "template", text=BARE),
    Condition("bare-window", SETTINGS, "template", text=BARE),
    Condition("filled", SETTINGS, "context", text=FILLED, full=True),
    Condition("filled-window", SETTINGS, "context", text=FILLED),
    Condition("few", SETTINGS, "some", prompts=2),
]


@pytest.mark.parametrize(("batches", "processes"), list(product(range(1, 7), range(1, 9))))
def test_every_condition_is_measured_on_every_batch_once(batches: int, processes: int) -> None:
    units = [unit for stage in stages(CONDITIONS, batches, processes) for unit in stage]
    found = Counter((unit.batch, one.name) for unit in units for one in unit.conditions)
    assert found == Counter((batch, one.name) for batch in range(batches) for one in CONDITIONS)
    assert all(unit.limit == one.prompts for unit in units for one in unit.conditions)


@pytest.mark.parametrize(("batches", "processes"), list(product(range(1, 7), range(2, 9))))
def test_what_rests_on_another_cell_is_behind_it_in_the_same_process_or_in_a_later_stage(batches: int, processes: int) -> None:
    when = {}
    for number, stage in enumerate(stages(CONDITIONS, batches, processes)):
        for place, unit in enumerate(stage):
            for one in unit.conditions:
                when[unit.batch, one.name] = (number, place, place % processes)
    for batch, one in product(range(batches), CONDITIONS[1:]):
        (first, at, by), (stage_number, place, who) = when[batch, BASELINE], when[batch, one.name]
        assert stage_number > first or (who == by and place >= at), (batch, one.name)


@pytest.mark.parametrize(("batches", "processes"), [(1, 4), (3, 2), (2, 3)])
def test_conditions_on_changed_texts_stay_together_since_the_first_holds_their_texts(batches: int, processes: int) -> None:
    units = [unit for stage in stages(CONDITIONS, batches, processes) for unit in stage]
    for (text, _), group in sharing_texts(CONDITIONS).items():
        if text != TextSettings():
            assert [unit.conditions for unit in units if unit.conditions[0].text == text] == [group] * batches


def test_one_process_measures_batch_after_batch_with_all_that_shares_its_texts_at_once() -> None:
    (units,) = stages(CONDITIONS, 2, 1)
    groups = [(limit, group) for (_, limit), group in sharing_texts(CONDITIONS).items()]
    assert units == [Unit(batch, limit, group) for batch in range(2) for limit, group in groups]


def test_one_batch_keeps_four_processes_busy() -> None:
    first, then = stages(CONDITIONS, 1, 4)
    assert [len(unit.conditions) for unit in first] == [1]
    assert len(then) == 4 + 2 + 1
