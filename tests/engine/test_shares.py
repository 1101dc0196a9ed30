from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import pytest

from driftcli.conditions import BASELINE, Condition, DraftSettings, TextSettings
from driftcli.domain import RunSpec
from driftcli.engine.agenda import sharing_texts
from driftcli.engine.shares import Stage, Unit, stages

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


SPEC = RunSpec(batch_size=4)


def units_of(stage: Stage) -> list[Unit]:
    return [unit for of_one in stage for company in of_one for unit in company]


@pytest.mark.parametrize(("batches", "processes"), list(product(range(1, 7), range(1, 9))))
def test_every_condition_is_measured_on_every_batch_once(batches: int, processes: int) -> None:
    found = stages(CONDITIONS, [4] * batches, processes, SPEC)
    assert all(len(stage) == processes for stage in found)
    units = [unit for stage in found for unit in units_of(stage)]
    counted = Counter((unit.batch, one.name) for unit in units for one in unit.conditions)
    assert counted == Counter((batch, one.name) for batch in range(batches) for one in CONDITIONS)
    assert all(unit.limit == one.prompts for unit in units for one in unit.conditions)


@pytest.mark.parametrize("sizes", [[4] * batches for batches in range(1, 7)] + [[1], [4, 2], [4, 4, 1]])
@pytest.mark.parametrize("processes", range(2, 9))
def test_what_rests_on_another_cell_is_behind_it_in_the_same_process_or_in_a_later_stage(sizes: list[int], processes: int) -> None:
    when = {}
    for number, stage in enumerate(stages(CONDITIONS, sizes, processes, SPEC)):
        for rank, of_one in enumerate(stage):
            for place, unit in enumerate(unit for company in of_one for unit in company):
                for one in unit.conditions:
                    when[unit.batch, one.name] = (number, place, rank)
    for batch, one in product(range(len(sizes)), CONDITIONS[1:]):
        (first, at, by), (stage_number, place, who) = when[batch, BASELINE], when[batch, one.name]
        assert stage_number > first or (who == by and place >= at), (batch, one.name)


@pytest.mark.parametrize(("batches", "processes"), [(1, 4), (3, 2), (2, 3)])
def test_conditions_on_changed_texts_stay_together_since_the_first_holds_their_texts(batches: int, processes: int) -> None:
    units = [unit for stage in stages(CONDITIONS, [4] * batches, processes, SPEC) for unit in units_of(stage)]
    for (text, _), group in sharing_texts(CONDITIONS).items():
        if text != TextSettings():
            assert [unit.conditions for unit in units if unit.text == text] == [group] * batches


def test_one_process_measures_batch_after_batch_with_all_that_shares_its_texts_at_once() -> None:
    ((companies,),) = stages(CONDITIONS, [4, 4], 1, SPEC)
    groups = [(limit, group) for (_, limit), group in sharing_texts(CONDITIONS).items()]
    assert companies == [[Unit(batch, limit, group)] for batch in range(2) for limit, group in groups]


def test_one_batch_keeps_four_processes_busy() -> None:
    first, then = stages(CONDITIONS, [4], 4, SPEC)
    assert [len(unit.conditions) for unit in units_of(first)] == [1]
    assert len(units_of(then)) == 4 + 2 + 1


BASE = Condition(BASELINE, SETTINGS, full=True)


def written_together(texts: list[TextSettings], sizes: list[int], spec: RunSpec = SPEC, prompts: int = 0) -> list[list[int]]:
    """The places of texts in the companies of the last batch."""
    asked = [Condition(f"c{place}", SETTINGS, "some", text=text, prompts=prompts) for place, text in enumerate(texts)]
    ((companies,),) = stages([BASE, *asked], sizes, 1, spec)
    last = [company for company in companies if company[0].batch == len(sizes) - 1]
    assert [unit.conditions for unit in last[0]] == [[BASE]]
    return [[int(unit.conditions[0].name[1:]) for unit in company] for company in last[1:]]


OTHERS = [TextSettings(template=name) for name in ("none", "other-roles", "other-family", "no-generation-prompt", "thinking")]


def test_texts_of_conditions_are_written_together_up_to_the_replies_that_a_batch_may_have() -> None:
    assert written_together(OTHERS, [1]) == [[0, 1, 2, 3], [4]]
    assert written_together(OTHERS, [4, 2]) == [[0, 1], [2, 3], [4]]
    assert written_together(OTHERS, [3]) == [[0], [1], [2], [3], [4]]
    assert written_together(OTHERS, [4], prompts=2) == [[0, 1], [2, 3], [4]], "of as many prompts as each is asked"
    assert written_together(OTHERS, [4, 4], prompts=4) == [[0], [1], [2], [3], [4]], "of none on the second batch"


def test_texts_that_others_may_not_change_or_that_nobody_writes_stand_alone() -> None:
    alone = [
        TextSettings(alone=True),
        TextSettings(temperature=0.7),
        TextSettings(template="own", bos="dropped", replayed=True),
        TextSettings(twin="replies"),
    ]
    assert written_together([OTHERS[0], *alone, OTHERS[1]], [1]) == [[0, 5], [1], [2], [3], [4]]
    assert written_together(OTHERS[:2], [1], RunSpec(batch_size=4, temperature=1.0)) == [[0], [1]]


def replayed(text: TextSettings) -> TextSettings:
    return replace(text, replayed=True)


def test_replayed_texts_come_to_those_that_are_written_of_the_same_prompts_and_take_no_reply_of_the_batch() -> None:
    texts = [OTHERS[0], replayed(OTHERS[0]), OTHERS[1], replayed(OTHERS[1]), OTHERS[2], OTHERS[3], replayed(OTHERS[2])]
    assert written_together(texts, [1]) == [[0, 1, 2, 3, 4, 5, 6]]
    assert written_together(texts, [3]) == [[0, 1], [2, 3], [4, 6], [5]]
    assert written_together(texts, [4, 2]) == [[0, 1, 2, 3], [4, 5, 6]]
    assert written_together(texts, [4, 4], prompts=4) == [[0], [1], [2], [3], [4], [5], [6]], "of none on the second batch"


def test_replayed_texts_stand_alone_where_those_of_the_same_prompts_do() -> None:
    drawn, alone = TextSettings(temperature=0.7), TextSettings(alone=True)
    assert written_together([drawn, replayed(drawn), alone, replayed(alone)], [1]) == [[0], [1], [2], [3]]
    assert written_together([OTHERS[0], replayed(OTHERS[0])], [1], RunSpec(batch_size=4, temperature=1.0)) == [[0], [1]]


def test_long_texts_are_written_beside_long_ones() -> None:
    lengths = [TextSettings(length=length) for length in (0, 64, 512, 2048, 4096, 5000)]
    system = TextSettings(system="other", system_tokens=1024)
    texts = [OTHERS[0], *lengths[1:], system]
    assert written_together(texts, [1], RunSpec(batch_size=9)) == [[0, 1], [2, 3, 4, 6], [5]]
