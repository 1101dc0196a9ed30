from __future__ import annotations

from driftcli.report.outputs.markdown import MOST, render
from tests.report.outputs.outcomes import ALL, BAD, EVIL, FAILED, PASSED, SKIPPED, outcome
from tests.report.test_markdown import plain


def test_what_ended_the_gate_stands_in_a_table_and_the_rest_in_two_lines() -> None:
    assert render(ALL) == (
        "## driftcli check: failed: 1 of 6 rules\n"
        "\n"
        "**Some-Target-8B  \\<-  some-eagle3-head**  \n"
        "run: runs/new\n"
        "\n"
        "|  | rule | why | measured | limit | what to do |\n"
        "| --- | --- | --- | --- | --: | --- |\n"
        "| failed | min:acceptance-length | acceptance length is 2.31 [2.21, 2.40] where at least 2.5 is asked | "
        "2.31 [2.21, 2.40] tokens a round, 80 prompts | 2.50 | serve the drafter before this one |\n"
        "| cannot tell | max:compounding | compounding is 11% [6%, 16%], and 10% lies inside | "
        "11.0% [6.0%, 16.0%], 80 prompts | 10.0% | about 140 more prompts would tell |\n"
        "| warning | DRIFT-STATE | mild: the hidden state grows | 1.21 [1.10, 1.30] RMS ratio, 80 prompts |  | draft 3 tokens |\n"
        "| accepted | axis:domain | code -12% [-15%, -9%] |  |  | known since the last training, until 2027-01-31 |\n"
        "\n"
        "Passed: axis:template.\n"
        "\n"
        "Skipped: axis:context (no probe of this run asks it)."
    )


def test_hostile_text_stays_text_and_in_its_cell() -> None:
    text = render(BAD)
    assert {line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("|")} == {7}
    assert plain(text).count("<img src=x onerror=alert(1)>") == EVIL.count("<img") * (3 + 2 * 4)


def test_the_table_and_the_lists_are_bounded() -> None:
    text = render(outcome(*[FAILED] * (MOST + 5), *[PASSED] * (MOST + 6), *[SKIPPED] * (MOST + 7)))
    assert text.count("| failed |") == text.count("axis:template") == text.count("axis:context") == MOST
    assert all(f"and {number} more" in text for number in (5, 6, 7))
