from __future__ import annotations

from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console

from driftcli.domain import Estimate, Finding, Verdict
from driftcli.report.console import plain
from driftcli.report.markdown import render as markdown
from driftcli.report.terminal import whole as render
from driftcli.traces.reader import Run
from tests.report.conftest import Judged
from tests.report.synthetic import DRIFTING, WITHOUT_STATE, Life, Recipe


def text(run: Run, verdict: Verdict) -> str:
    return plain(render(run, verdict))


HEALTHY = Recipe(Life(), prompts=tuple(f"prompt-{number:02}" for number in range(24)), anchors=200)
DRIFT = Recipe(
    DRIFTING, short=("tiny-1",), ignored=("temperature=0.6", "top_p=0.9"),
    notes=("fc_norm is True in the config but the tensors say none; servers follow the config, this run follows the tensors",),
)  # fmt: skip
EVIL = "evil\x1b[31m\x9b2J\r\u202egnp [red]x[/red] :smile:"
SHOWN = "evil\\x1b[31m\\x9b2J\\r\\u202egnp [red]x[/red] :smile:"


def deep(depth: int) -> Recipe:
    """A short run with a long chain and wide numbers."""
    life = Life(0.9, (0, *[0.3] * (depth - 1)), (1, *[12.5] * (depth - 1)), (0, *[0.3] * (depth - 1)))
    return Recipe(life, prompts=("a", "b", "c"), anchors=5)


def named(verdict: Verdict, words: str) -> Verdict:
    """The verdict with the words wherever a probe or a model can put some."""
    finding = Finding("DRIFT-STATE", "severe", words, Estimate(2, 1.9, 2.1, 20), "RMS ratio", words)
    return Verdict("severe", words, verdict.axes, (finding,))


# ---- as agreed


def test_the_report_of_a_drifting_head_reads_as_agreed(judged: Judged, golden: Callable[[str, str], None]) -> None:
    golden("report_drift.txt", text(*judged(DRIFT)) + "\n")


def test_the_report_of_a_healthy_head_reads_as_agreed(judged: Judged, golden: Callable[[str, str], None]) -> None:
    golden("report_healthy.txt", text(*judged(HEALTHY)) + "\n")


def test_the_report_of_a_drafter_without_recursion_reads_as_agreed(judged: Judged, golden: Callable[[str, str], None]) -> None:
    golden("report_not_applicable.txt", text(*judged(Recipe(WITHOUT_STATE, drafter="some-small-lm"))) + "\n")


# ---- layout


@pytest.mark.parametrize("recipe", [DRIFT, HEALTHY, Recipe(WITHOUT_STATE), deep(64), Recipe(Life(sink=False))])
def test_no_line_is_wider_than_100_columns_and_none_ends_in_blanks(judged: Judged, recipe: Recipe) -> None:
    lines = text(*judged(recipe)).split("\n")
    assert max(map(len, lines)) <= 100
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("depth", [3, 8, 9, 64])
def test_every_line_by_depth_stays_one_line_and_its_remark_is_beside_or_below(judged: Judged, depth: int) -> None:
    lines = text(*judged(deep(depth))).split("\n")
    for name, remark in (
        ("lost by compounding", "loss beyond the hand-off"),
        ("hidden state RMS", "over the target-fed state"),
        ("recent", "last 4 keys, any region"),
    ):
        (line,) = [line for line in lines if line.startswith(name)]
        assert line.endswith(f" {remark}") != (f"- {name}: {remark}" in lines)  # in one place, not in both
        assert len(line.removesuffix(remark).removeprefix(name).split()) >= min(depth, 8)


def test_a_deep_chain_shows_its_first_depths_and_its_last(judged: Judged) -> None:
    shown = text(*judged(deep(64)))
    header = next(line for line in shown.split("\n") if line.startswith("depth"))
    assert header.split() == ["depth", "1", "2", "3", "15", "27", "40", "52", "64"]


def test_on_a_narrow_terminal_the_remarks_wrap_and_the_numbers_stay(judged: Judged) -> None:
    console = Console(file=StringIO(), width=80, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(render(*judged(DRIFT)))
    (line,) = [line for line in captured.get().split("\n") if line.startswith("hidden state RMS")]
    assert line.split()[3:11] == ["1.00x", "1.10x", "1.30x", "1.50x", "1.70x", "1.90x", "2.10x", "2.30x"]


def test_the_verdict_line_begins_with_the_severity(judged: Judged) -> None:
    for recipe, severity, word in (
        (DRIFT, "severe", "SEVERE DRIFT "), (HEALTHY, "healthy", "NO DRIFT "), (Recipe(WITHOUT_STATE), "not applicable", "DRIFT NOT APPLICABLE "),
    ):  # fmt: skip
        run, verdict = judged(recipe)
        assert verdict.severity == severity
        assert text(run, verdict).split("\n")[3].startswith(word)
        run.path.rename(f"{verdict.severity}-seen")


def test_the_same_advice_is_given_once_for_all_the_findings_that_ask_for_it(judged: Judged) -> None:
    shown = " ".join(text(*judged(DRIFT)).split())
    assert shown.count("instead of 8: keeps") == 1
    assert "(DRIFT-STATE, DRIFT-ATTENTION)" in shown


def test_findings_are_followed_by_how_to_have_them_explained(judged: Judged) -> None:
    run, verdict = judged(DRIFT)
    assert "driftcli explain DRIFT-STATE" in text(run, verdict)
    assert "driftcli explain" not in text(run, Verdict(verdict.severity, verdict.headline, verdict.axes))


def test_a_run_folder_with_blanks_is_quoted_so_that_the_command_can_be_pasted(judged: Judged) -> None:
    run, verdict = judged(HEALTHY)
    moved = type(run)(run.path.rename("my run's"), run.manifest, run.pair, run.spec)
    assert "driftcli report 'my run'\"'\"'s' --format json" in text(moved, verdict)


def test_a_run_without_a_single_anchor_still_reports_and_names_its_prompts(judged: Judged) -> None:
    shown = text(*judged(Recipe(prompts=(), short=("a", "b"))))
    assert "INCONCLUSIVE" in shown
    assert "0 prompts · " in shown
    assert "2 prompts too short for one chain, left out: a, b" in shown
    assert "acceptance length unknown (no reply was long enough for a chain)" in shown


def test_given_replies_are_not_called_greedy_nor_their_length_acceptance(judged: Judged) -> None:
    shown = text(*judged(Recipe(DRIFTING, argmax_share=0.9)))
    assert "given replies" in shown
    assert "text match length (the target's own choice at only 90% of the tokens) " in shown
    assert "acceptance length" not in shown
    assert "greedy ·" not in shown


# ---- text from outside


def test_control_characters_and_markup_from_outside_are_shown_and_never_interpreted(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, target=EVIL, drafter=EVIL, short=(EVIL,), notes=(EVIL,), ignored=(EVIL,)))
    shown = text(run, named(verdict, EVIL))
    assert all(character.isprintable() or character == "\n" for character in shown)
    unwrapped = "".join(shown.split())
    assert unwrapped.count("".join(SHOWN.split())) == 8  # target, drafter, headline, claim, fix, prompt, note, setting


def test_on_a_coloured_terminal_only_rich_writes_escapes(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, target=EVIL))
    console = Console(file=StringIO(), width=100, force_terminal=True, color_system="truecolor", legacy_windows=False)
    with console.capture() as captured:
        console.print(render(run, named(verdict, "[bold]claim[/bold]")))
    shown = captured.get()
    assert "\x1b[31mevil" not in shown
    assert "\x9b" not in shown
    assert "[bold]claim[/bold]" in shown
    assert "\\x1b[31m" in shown


def test_no_colour_is_written_where_there_is_no_terminal_even_if_the_environment_asks(
    judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    shown = text(*judged(DRIFT))
    assert "\x1b" not in shown
    assert max(map(len, shown.split("\n"))) > 90


def test_conditions_are_shown_by_probe_with_what_they_keep_of_the_accepted_drafts(judged: Judged) -> None:
    extra = {"same": ("windows", DRIFTING), "better": ("windows", Life()), "also": ("other", DRIFTING)}
    run, verdict = judged(Recipe(DRIFTING, prompts=DRIFT.prompts[:8], anchors=40, extra=extra))
    lines = text(run, verdict).split("\n")
    (place,) = [number for number, line in enumerate(lines) if line.startswith("CONDITIONS")]
    assert lines[place].split("  ")[-1].strip() == "accepted draft tokens, against the baseline's"
    same, better, also = (line.split() for line in lines[place + 1 : place + 4])
    assert (same[:2], better[0], also[:2]) == (["windows", "same"], "better", ["other", "also"])  # a probe's name stands once
    assert same[-3:] == also[-3:] == ["100%", "[69%,", "145%]"]  # paired: the spread between prompts cancels, others may differ
    assert int(better[-3].rstrip("%")) > 100
    assert "| windows | same |" in markdown(run, verdict)
