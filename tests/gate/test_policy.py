from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from driftcli.codes import CODES
from driftcli.domain import AXES
from driftcli.gate.policy import About, Accepted, Level, Policy, Rule, Selector, levelled, selecting, why_no_code
from driftcli.outcome import Check, Status

TODAY = date(2026, 6, 15)
SHIFT = About("DOMAIN-SHIFT:code-python", "DOMAIN-SHIFT", "domain", "code-python", "baseline")
FAILED = Check("min:joint@3", "failed", "too low")
LIMIT = About("min:joint@3")


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        (Selector(code="DOMAIN-SHIFT"), True),
        (Selector(code="DOMAIN-*"), True),
        (Selector(code="domain-shift"), False),
        (Selector(axis="domain"), True),
        (Selector(axis="drift"), False),
        (Selector(category="code-*"), True),
        (Selector(category="code"), False),
        (Selector(condition="context-*"), False),
        (Selector(rule="DOMAIN-SHIFT:*"), True),
        (Selector(code="DOMAIN-SHIFT", category="maths"), False),
        (Selector(code="DOMAIN-SHIFT", category="code-?ython"), True),
    ],
)
def test_all_that_a_selector_gives_must_match(selector: Selector, fits: bool) -> None:
    assert selector.matches(SHIFT) is fits


def test_what_a_rule_has_not_is_matched_by_no_pattern() -> None:
    assert not Selector(category="*").matches(LIMIT) and not Selector(code="*").matches(LIMIT)
    assert Selector(rule="*").matches(LIMIT)


def test_the_last_rule_that_matches_decides_however_special_the_others_are() -> None:
    general, special = Rule(Selector(axis="domain"), "error", "a"), Rule(Selector(code="DOMAIN-SHIFT", category="code-*"), "warn", "b")
    assert Policy(rules=[general, special]).rule_for(SHIFT) == special
    assert Policy(rules=[special, general]).rule_for(SHIFT) == general
    assert Policy(rules=[general, special]).rule_for(replace(SHIFT, category="maths")) == general
    assert Policy(rules=[special]).rule_for(LIMIT) is None


def test_a_note_is_meant_where_its_code_is_named_or_it_is_turned_off() -> None:
    note = About("WINDOW-HELPS", "WINDOW-HELPS", "context", note=True)
    levels: list[Level] = ["warn", "error"]
    for level in levels:
        assert Policy(rules=[Rule(Selector(axis="context"), level, "a")]).rule_for(note) is None
        assert Policy(rules=[Rule(Selector(code="WINDOW-*"), level, "a")]).rule_for(note) is None
        assert Policy(rules=[Rule(Selector(code="WINDOW-HELPS"), level, "a")]).rule_for(note) is not None
    assert Policy(rules=[Rule(Selector(axis="context"), "off", "a")]).rule_for(note) is not None


@pytest.mark.parametrize(("level", "status"), [("off", "skipped"), ("warn", "warned"), ("error", "failed")])
def test_a_rule_counts_as_its_level_says(level: Level, status: Status) -> None:
    found = levelled(FAILED, LIMIT, Policy(rules=[Rule(Selector(rule="min:*"), level, "policy.toml, rules[0]")]), TODAY)
    assert found.status == status


@pytest.mark.parametrize(("today", "status"), [(date(2026, 6, 30), "warned"), (date(2026, 7, 1), "failed")])
def test_what_is_accepted_warns_to_the_end_of_its_last_day_and_then_counts_again(today: date, status: Status) -> None:
    policy = Policy(accepted=[Accepted(Selector(rule="min:*"), "new data is on its way", date(2026, 6, 30), "a")])
    found = levelled(FAILED, LIMIT, policy, today)
    assert found.status == status
    if status == "warned":
        assert (found.accepted, found.reason) == ("new data is on its way (until 2026-06-30)", "too low")
    else:
        assert (found.accepted, found.reason) == ("", "too low; accepted until 2026-06-30, which is past (new data is on its way)")


def test_of_two_acceptances_the_longer_one_counts_and_what_passed_needs_none() -> None:
    short, long = (Accepted(Selector(rule=rule), "why", date(2026, month, 1), "a") for rule, month in (("min:*", 5), ("*", 9)))
    assert levelled(FAILED, LIMIT, Policy(accepted=[long, short]), TODAY).status == "warned"
    passed = replace(FAILED, status="passed")
    assert levelled(passed, LIMIT, Policy(accepted=[long]), TODAY) == passed


def test_selecting_turns_every_other_finding_off_and_leaves_limits_alone() -> None:
    policy = Policy(rules=selecting(["DRIFT-*"], ["DRIFT-STATE"]))

    def level(about: About) -> Level | None:
        rule = policy.rule_for(about)
        return None if rule is None else rule.level

    assert level(SHIFT) == "off"
    assert level(About("DRIFT-ATTENTION", "DRIFT-ATTENTION", "drift")) == "error"
    assert level(About("DRIFT-STATE", "DRIFT-STATE", "drift")) == "off"
    assert level(LIMIT) is None
    axes = {code.axis for code in CODES if code.name.startswith("DRIFT-")}
    assert {axis for axis in AXES if level(About(f"axis:{axis}", axis=axis)) == "error"} == axes


def test_a_pattern_of_no_code_is_answered_with_what_was_meant() -> None:
    assert why_no_code("DRIFT-STAT") == "matches no code; did you mean DRIFT-STATE? `driftcli explain` lists them"
    assert not why_no_code("DRIFT-*")
