from __future__ import annotations

from driftcli.domain import RunSpec
from driftcli.testing import Facts, pair_card
from probes.sampling import Sampling


def test_each_temperature_is_one_condition_on_replies_drawn_at_it() -> None:
    asked = Sampling().conditions(pair_card(), RunSpec(depth=4))
    assert [(condition.name, condition.text.temperature, condition.settings.depth) for condition in asked] == [
        ("temperature-0.7", 0.7, 4), ("temperature-1", 1.0, 4),
    ]  # fmt: skip


def test_a_loss_by_temperature_is_no_finding() -> None:
    assert list(Sampling().judge(Facts())) == []


def test_the_temperature_of_the_run_is_not_asked_for_twice() -> None:
    asked = RunSpec(depth=4, temperature=1.0)
    assert [condition.name for condition in Sampling().conditions(pair_card(), asked)] == ["temperature-0.7"]
    assert Sampling().left_out(pair_card(), asked) == ["sampling: temperature 1 left out: it is the run's own, see its baseline"]
