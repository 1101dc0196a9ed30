from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from driftcli.outcome import Outcome
from driftcli.report.outputs.junit import render
from tests.report.outputs.outcomes import ALL, BAD, EVIL, FAILED, NOTHING, PASSED, outcome

SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).parents[2] / "golden" / "schemas" / "junit-10.xsd"))  # Jenkins' xUnit plugin, MIT


def read(shown: Outcome) -> etree._Element:
    return etree.fromstring(render(shown).encode("utf-8"))


@pytest.mark.parametrize("shown", [ALL, BAD, NOTHING])
def test_the_document_is_valid_under_the_schema_of_jenkins(shown: Outcome) -> None:
    SCHEMA.assertValid(read(shown))


def test_the_schema_refuses_what_it_does_not_know() -> None:
    top = read(ALL)
    etree.SubElement(top[0], "test")
    assert not SCHEMA.validate(top)


def test_a_rule_is_a_case_and_ends_as_its_check_does() -> None:
    cases = {case.get("name"): [child.tag for child in case] for case in read(ALL).iter("testcase")}
    assert cases == {
        "axis:template": ["system-out"],
        "max:compounding": ["error"],
        "axis:context": ["skipped"],
        "min:acceptance-length": ["failure"],
        "DRIFT-STATE": ["system-out"],
        "axis:domain": ["system-out"],
    }
    (suite,) = read(ALL)
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["6", "1", "1", "1"]


def test_the_text_of_a_failure_says_everything_for_gitlab_shows_nothing_else() -> None:
    (failure,) = read(ALL).iter("failure")
    assert failure.get("message") == FAILED.reason
    assert failure.text == (
        "rule: min:acceptance-length\n"
        "why: acceptance length is 2.31 [2.21, 2.40] where at least 2.5 is asked\n"
        "measured: 2.31 [2.21, 2.40] tokens a round, 80 prompts\n"
        "limit: 2.50\n"
        "what to do: serve the drafter before this one"
    )
    (error,) = read(ALL).iter("error")
    assert "measured: 11.0% [6.0%, 16.0%], 80 prompts\nlimit: 10.0%\nto settle it: about 140 more prompts would tell" in (error.text or "")


def test_two_checks_of_one_rule_are_two_cases() -> None:
    assert [case.get("name") for case in read(outcome(PASSED, PASSED)).iter("testcase")] == ["axis:template", "axis:template (2)"]


def test_hostile_text_stays_text() -> None:
    top = read(BAD)
    assert {element.tag for element in top.iter()} == {"testsuites", "testsuite", "properties", "property", "testcase", "failure"}
    (first, _) = top.iter("failure")
    assert first.get("message") == EVIL.replace("\r\n", "\\r\\n").replace("\n", "\\n").replace("\x1b", "\\x1b").replace(
        "\x00", "\\x00"
    ).replace("\ud800", "\\ud800")
