from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console, RenderableType

from driftcli.codes import CODES
from driftcli.domain import Estimate, Finding, Verdict
from driftcli.report import remedies
from driftcli.report.console import plain
from driftcli.report.terminal import LINES, page, whole
from driftcli.traces.reader import Run
from tests.report.conftest import Judged
from tests.report.synthetic import DRIFTING, WITHOUT_STATE, Life, Recipe
from tests.report.test_remedies import CHEAP

NOTES = tuple(
    f"note {number} of the loader, which says a good deal about a checkpoint in more words than fit a line of a terminal"
    for number in range(9)
)
RECIPES = [
    Recipe(DRIFTING),
    Recipe(Life()),
    Recipe(WITHOUT_STATE),
    Recipe(DRIFTING, notes=NOTES, short=("a", "b")),
    Recipe(prompts=(), short=("a", "b")),
]


def at(width: int, shown: RenderableType) -> list[str]:
    console = Console(file=StringIO(), width=width, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(shown)
    return [line.rstrip() for line in captured.get().splitlines()]


def crowded(verdict: Verdict) -> Verdict:
    """The verdict with a finding of every code."""
    found = [
        Finding(
            code.name,
            "severe",
            f"{code.meaning} {code.looks_like}",
            Estimate(0.4, 0.3, 0.5, 20),
            "share",
            f"mend {code.name} by {code.remedies[0]}",
        )
        for code in CODES
    ]
    return replace(verdict, findings=tuple(found))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_page_fits_fifty_lines_whatever_was_found(judged: Judged, recipe: Recipe) -> None:
    run, verdict = judged(recipe)
    assert len(plain(page(run, verdict)).splitlines()) <= LINES == 50
    assert len(plain(page(run, crowded(verdict))).splitlines()) <= LINES


def test_what_a_page_leaves_out_is_counted_and_stands_in_the_whole_report(judged: Judged) -> None:
    run, verdict = judged(RECIPES[3])
    verdict = crowded(verdict)
    shown, everything = plain(page(run, verdict)), plain(whole(run, verdict))
    listed = sum(f"\n{code.name} " in shown for code in CODES)
    assert 0 < listed < len(CODES)
    assert f"... and {len(CODES) - listed} more (--full)" in shown
    assert "driftcli report run --full" in shown
    assert all(f"\n{code.name} " in everything for code in CODES)
    assert all(" ".join(note.split()) in " ".join(everything.split()) for note in NOTES)


def test_a_page_with_room_leaves_nothing_out(judged: Judged) -> None:
    assert "more (--full)" not in plain(page(*judged(Recipe(Life()))))


@pytest.mark.parametrize("shown", [page, whole])
def test_a_report_ends_with_where_to_look_and_the_verdict_once_more(judged: Judged, shown: object) -> None:
    lines = plain(shown(*judged(Recipe(DRIFTING)))).splitlines()  # type: ignore[operator]
    assert lines[-1] == "verdict: severe drift"
    assert lines[-2].startswith("traces: ")


@pytest.mark.parametrize("width", [40, 60, 80, 132])
@pytest.mark.parametrize("recipe", [*RECIPES, Recipe(DRIFTING, prompts=("a", "b", "c"), extra={"same": ("windows", DRIFTING)})])
def test_at_any_width_no_line_is_wider_and_the_last_depth_is_there(judged: Judged, recipe: Recipe, width: int) -> None:
    run, verdict = judged(recipe)
    for shown in (page, whole):
        lines = at(width, shown(run, verdict))
        assert max(map(len, lines)) <= width
        header = next(line for line in lines if line.startswith("depth"))
        assert (header.split()[1], header.split()[-1]) == ("1", "8")


def test_a_wide_terminal_shows_more_depths_and_a_narrow_one_fewer(judged: Judged) -> None:
    run, verdict = judged(Recipe(Life(1.0, (0,) * 24, (1,) * 24, (0,) * 24), prompts=("a",)))
    shown = {
        width: next(line for line in at(width, page(run, verdict)) if line.startswith("depth")).split()[1:] for width in (40, 100, 200)
    }
    assert shown[40] == ["1", "2", "13", "24"]
    assert shown[100] == ["1", "2", "3", "7", "11", "16", "20", "24"]
    assert shown[200] == [str(depth) for depth in range(1, 25)]


@pytest.mark.parametrize("width", [40, 60, 100])
def test_what_a_mitigation_tried_never_vanishes(judged: Judged, width: int) -> None:
    run, verdict = judged(Recipe(DRIFTING, costs=[CHEAP]))
    found = remedies.tried(run)
    assert len(found) > 3
    text = " ".join(" ".join(at(width, whole(run, verdict))).split())
    for _, name, words, gain in remedies.remedy_rows(run, found):
        assert all(part in text for cell in (name, words, gain) for part in cell.split())


def words(run: Run, verdict: Verdict, width: int) -> str:
    return " ".join(" ".join(at(width, page(run, verdict))).split())


def test_remarks_that_do_not_fit_beside_a_table_stand_below_it(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING))
    assert "- hidden state RMS: over the target-fed state" in words(run, verdict, 60)
    assert "hidden state RMS: over" not in words(run, verdict, 100)
