from __future__ import annotations

import re

from driftcli.report.outputs.github import SHOWN, command, render
from tests.report.outputs.outcomes import ALL, BAD, FAILED, NOTHING, PASSED, WARNED, outcome


def parsed(line: str) -> tuple[str, str, str]:
    """Level, title and message as the runner reads a command: split at the first `::` behind the name, then unescaped."""
    found = re.fullmatch(r"::(error|warning|notice) title=([^:,]*)::([^\r\n]*)", line)
    assert found is not None, line
    title, message = found[2], found[3]
    for raw, real in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        title = title.replace(raw, real)
        message = message if raw in ("%3A", "%2C") else message.replace(raw, real)
    return found[1], title, message


def test_each_check_that_matters_is_an_annotation_the_worst_first() -> None:
    assert [parsed(line)[:2] for line in render(ALL).splitlines()] == [
        ("error", "driftcli check: min:acceptance-length failed"),
        ("error", "driftcli check: max:compounding cannot tell"),
        ("warning", "driftcli check: DRIFT-STATE warning"),
        ("notice", "driftcli check: axis:domain accepted"),
    ]


def test_the_first_line_is_the_reason_and_the_others_what_was_measured_the_limit_and_what_to_do() -> None:
    first, second, *_ = [parsed(line)[2].split("\n") for line in render(ALL).splitlines()]
    assert first == [
        FAILED.reason,
        "measured: 2.31 [2.21, 2.40] tokens a round, 80 prompts",
        "limit: 2.50",
        "what to do: serve the drafter before this one",
    ]
    assert second[-1] == "to settle it: about 140 more prompts would tell"


def test_the_toolkits_characters_are_escaped_each_in_its_place() -> None:
    assert command("error", "a: b, 5%\n", "a: b, 5%\r\n::error::x") == "::error title=a%3A b%2C 5%25%0A::a: b, 5%25%0D%0A::error::x"


def test_hostile_text_begins_no_command_of_its_own() -> None:
    lines = render(BAD).split("\n")
    assert len(lines) == 2
    assert all(character.isprintable() for line in lines for character in line)
    for line in lines:
        parsed(line)


def test_annotations_that_github_would_drop_are_counted_in_the_last_one_it_shows() -> None:
    lines = render(outcome(*[FAILED] * SHOWN, *[WARNED] * (SHOWN + 3))).splitlines()
    assert [sum(line.startswith(f"::{level} ") for line in lines) for level in ("error", "warning")] == [SHOWN, SHOWN]
    assert parsed(lines[-1]) == ("warning", "driftcli", "4 more of this kind stand in the step's summary and in the other outputs")
    assert parsed(lines[SHOWN - 1])[2].startswith(FAILED.reason)


def test_without_anything_to_annotate_a_notice_says_how_it_went() -> None:
    assert parsed(render(NOTHING)) == ("notice", "driftcli check", "passed: nothing was asked")
    assert parsed(render(outcome(PASSED, headline="passed"))) == ("notice", "driftcli check", "passed")
