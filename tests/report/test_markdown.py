from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from markdown_it import MarkdownIt  # comes with rich

from driftcli.domain import Estimate, Finding, Verdict
from driftcli.report.markdown import BREAK, LINES, Part, _fitted, escaped, render
from tests.report.conftest import Judged
from tests.report.synthetic import DRIFTING, WITHOUT_STATE, Recipe
from tests.report.test_page import NOTES, RECIPES, crowded
from tests.report.test_remedies import CHEAP
from tests.report.test_terminal import DRIFT

EVIL = "a|b <img src=x> **bold** `code` [text](http://x.y) \\ _em_ &amp; # ~~gone~~ [red]x[/red] \x1b[31m"
SHOWN = EVIL.replace("\x1b", "\\x1b")


def plain(markdown: str) -> str:
    """What a reader sees: the text of every token, with no markup left but empty comments, which show nothing."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    own = (("html_inline", BREAK), ("code_inline", "driftcli report RUN --full"))
    children = [child for token in tokens for child in token.children or [] if (child.type, child.content) not in own]
    assert {child.type for child in children} <= {"text", "text_special", "softbreak", "hardbreak", "strong_open", "strong_close"}
    return "".join(child.content for child in children)


@pytest.mark.parametrize("recipe", [*RECIPES, Recipe(DRIFTING, costs=[CHEAP], notes=NOTES)])
def test_a_report_has_sixty_lines_at_most_and_counts_what_it_leaves_out(judged: Judged, recipe: Recipe) -> None:
    run, verdict = judged(recipe)
    assert len(render(run, verdict).splitlines()) <= LINES == 60
    full = render(run, crowded(verdict))
    assert len(full.splitlines()) <= LINES
    assert "more: `driftcli report RUN --full`" in full


def test_the_markdown_of_a_drifting_head_reads_as_agreed(judged: Judged, golden: Callable[[str, str], None]) -> None:
    golden("report_drift.md", render(*judged(DRIFT)) + "\n")


@pytest.mark.parametrize(("recipe", "tables"), [(DRIFT, 2), (Recipe(WITHOUT_STATE), 1)])
def test_every_line_of_a_table_has_as_many_cells_as_its_head(judged: Judged, recipe: Recipe, tables: int) -> None:
    blocks = [block.split("\n") for block in render(*judged(recipe)).split("\n\n") if block.startswith("|")]
    assert len(blocks) >= tables
    for block in blocks:
        assert {line.count("|") for line in block} == {block[0].count("|")}


def test_escaped_text_reads_as_it_was_and_means_nothing_to_markdown() -> None:
    assert plain(f"x {escaped(SHOWN)}") == f"x {SHOWN}"


@pytest.mark.parametrize(
    "text",
    [
        "ask @somebody",
        "cc @org/team",
        "see #123 and GH-45",
        "http://x.y/z",
        "https://x.y",
        "ftp://x.y",
        "www.x.y",
        "mailto:a@b.c",
        "a@b.c",
        "![i](https://x.y/i.png)",
    ],
)
def test_nothing_in_text_pings_anybody_or_becomes_a_link(text: str) -> None:
    shown = escaped(text)
    assert not re.search(r"@\w|#\d|GH-\d|://|www\.\w|mailto:\w", shown.replace("\\", ""))
    assert plain(f"x {shown}") == f"x {text}"


def test_text_from_outside_stays_text_and_stays_in_its_cell(judged: Judged) -> None:
    run, verdict = judged(Recipe(DRIFTING, target=EVIL, drafter=EVIL, short=(EVIL,), notes=(EVIL,), ignored=(EVIL,)))
    finding = Finding("DRIFT-STATE", "severe", EVIL, Estimate(2, 1.9, 2.1, 20), "RMS ratio", EVIL)
    report = render(run, Verdict("severe", EVIL, verdict.axes, (finding,)))
    assert all(character.isprintable() or character == "\n" for character in report)
    assert plain(report).count(SHOWN) == 8  # target, drafter, headline, claim, fix, prompt, note, setting


def test_no_part_stands_without_an_item_and_those_without_room_are_named() -> None:
    parts = [Part(f"Part {number}", ["head", "rule", *("item" for _ in range(9))], 2, held=True) for number in range(8)]
    for room in range(2, 130):
        blocks = list(_fitted(parts, room))
        shown = [block for block in blocks if block[0].startswith("### ")]
        assert sum(len(block) + 1 for block in blocks) <= room
        assert all("item" in block for block in shown)
        named = [word for block in blocks if block not in shown for word in block[0].split("`")[0].split(": ")[1].rstrip(". ").split(", ")]
        assert [block[0].removeprefix("### ").lower() for block in shown] + named == [part.head.lower() for part in parts]
