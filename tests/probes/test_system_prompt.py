from __future__ import annotations

from dataclasses import replace

from driftcli.conditions import TextSettings
from driftcli.domain import RenderingFacts, RunSpec, Skipped
from driftcli.testing import Facts, pair_card
from probes.system_prompt import SystemPrompt

PROBE = SystemPrompt()
TAKES = RenderingFacts(templated=True, takes_system=True)


def test_none_another_and_four_lengths_are_asked_for_anew_and_with_the_runs_replies() -> None:
    asked = PROBE.conditions(replace(pair_card(), rendering=TAKES), RunSpec())
    names = ["no-system", "other-system", "system-16", "system-64", "system-256", "system-1024"]
    assert [condition.name for condition in asked] == [name + end for name in names for end in ("", "-replayed")]
    assert asked[-1].text == TextSettings(system="other", system_tokens=1024, replayed=True)
    assert {condition.prompts for condition in asked} == {0}  # as many as decide, not some


def test_a_length_that_leaves_the_target_no_room_is_left_out() -> None:
    asked = PROBE.conditions(replace(pair_card(), rendering=TAKES, target_positions=1024), RunSpec())
    assert asked[-1].name == "system-256-replayed"


def test_a_template_without_system_messages_has_nothing_to_change() -> None:
    assert not PROBE.conditions(replace(pair_card(), rendering=RenderingFacts(templated=True)), RunSpec())
    (said,) = PROBE.judge(Facts())
    assert said == Skipped("template", "not applicable", "the template takes no system message")
