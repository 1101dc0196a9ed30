from __future__ import annotations

import json
from typing import get_args

import pytest

from driftcli.report.choices import OutputKind
from driftcli.report.outputs.kinds import KINDS, rendered
from tests.report.outputs.outcomes import ALL, BAD, FAILED, NOTHING


def test_every_kind_that_is_offered_is_rendered_and_the_other_way_round() -> None:
    assert tuple(KINDS) == get_args(OutputKind)


@pytest.mark.parametrize("kind", get_args(OutputKind))
def test_every_kind_says_the_rule_the_reason_what_was_measured_and_what_to_do(kind: OutputKind) -> None:
    text = rendered(kind, ALL, {})
    assert all(
        part in text for part in ("min:acceptance-length".replace(":", "%3A" if kind == "github" else ":"), FAILED.reason, FAILED.fix)
    )
    assert "2.31" in text
    assert "2.21" in text
    assert "140" in text


@pytest.mark.parametrize("kind", get_args(OutputKind))
def test_the_same_outcome_gives_the_same_text_and_hostile_text_drives_no_terminal(kind: OutputKind) -> None:
    for shown in (ALL, BAD, NOTHING):
        text = rendered(kind, shown, {})
        assert text == rendered(kind, shown, {})
        assert all(character.isprintable() or character == "\n" for character in text)
        assert not text.endswith("\n")


def test_what_a_command_renders_itself_is_taken() -> None:
    assert rendered("json", ALL, {"json": lambda: "own"}) == "own"


def test_json_has_the_numbers_and_null_for_what_there_is_not() -> None:
    shown = json.loads(rendered("json", ALL, {}))
    assert (shown["schema"], shown["exit_code"]) == (1, 4)
    by_rule = {check["rule"]: check for check in shown["checks"]}
    assert [by_rule["max:compounding"][name] for name in ("estimate", "low", "high", "n_prompts")] == [0.11, 0.06, 0.16, 80]
    assert by_rule["axis:template"]["estimate"] is by_rule["axis:template"]["limit"] is by_rule["axis:template"]["fix"] is None
