from __future__ import annotations

from io import StringIO

from rich.console import Console

from driftcli.domain import Estimate
from driftcli.gate.page import Page
from driftcli.outcome import Check, Outcome
from driftcli.report.console import plain

LONG = "acceptance-length 1.41 [1.38, 1.45], expected at least 2.5, " * 4
CHECKS = (
    Check("compare:handoff", "warned", "regressed", accepted="known (until 2026-12-31)", fix="hidden for what warns"),
    Check("axis:wiring", "passed", "sound"),
    Check("min:acceptance-length", "failed", LONG, None, Estimate(1.4, 1.3, 1.5, 20), "tokens", 2.5, "train\x1b[31m on"),
    Check("axis:domain", "skipped", "not measured"),
    Check("axis:context", "skipped", "not measured"),
    Check("max:tax", "undecided", "on either side of 0.3; about 40 more prompts would tell", more_prompts=40),
)
OUTCOME = Outcome("check", "a\u202e  <-  b", "runs/[bold]x", "failed: too short: really; and 1 more", CHECKS)


def test_the_answer_comes_first_then_what_failed_then_what_is_unsure_then_warnings_then_a_count() -> None:
    lines = plain(Page(OUTCOME)).splitlines()
    assert lines[0] == "failed: too short: really; and 1 more"
    heads = [line.split()[0] for line in lines if line[:1].isalpha() and line.split()[0].isupper()]
    assert heads == ["FAILED", "CANNOT", "WARNINGS"]
    assert lines[-2:] == ["passed: 1 (axis:wiring)", "not counted: axis:domain, axis:context (not measured)"]


def test_a_failure_stands_with_its_reason_and_fix_and_a_warning_with_what_it_is_accepted_for() -> None:
    text = " ".join(plain(Page(OUTCOME)).split())
    assert "min:acceptance-length acceptance-length 1.41 [1.38, 1.45], expected at least 2.5" in text
    assert r"fix: train\x1b[31m on" in text and "accepted: known (until 2026-12-31)" in text
    assert "hidden for what warns" not in text


def test_text_from_outside_drives_no_terminal_and_is_no_markup() -> None:
    text = plain(Page(OUTCOME))
    assert r"a\u202e  <-  b   runs/[bold]x" in text
    assert all(char.isprintable() or char == "\n" for char in text)


def test_it_fits_a_narrow_terminal_whole() -> None:
    console = Console(file=StringIO(), width=30, color_system=None, force_terminal=False)
    console.print(Page(OUTCOME))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 30
    assert "min:acceptance-length" in text and "40 more prompts" in " ".join(text.split())
