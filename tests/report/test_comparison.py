from __future__ import annotations

import json

import pytest
from rich.console import Console

from driftcli.comparison.pairwise import Comparison, compare
from driftcli.comparison.ranking import Ranking, rank
from driftcli.report import comparison, ranking
from driftcli.report.console import plain
from tests.comparison.runs import SOUND, WORSE, written
from tests.report.synthetic import DRIFTING, Recipe


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Ranking]:
    folder = tmp_path_factory.mktemp("held")
    runs = [written(folder, recipe, name) for name, recipe in {"a": Recipe(SOUND), "b": Recipe(DRIFTING), "c": Recipe(WORSE)}.items()]
    return compare((runs[0], runs[1]), ("a", "b"), 0.02), rank(runs, ("a", "b", "c"), 0.02)


def test_the_first_line_of_every_form_is_the_answer(held: tuple[Comparison, Ranking]) -> None:
    said = "b accepts fewer draft tokens than a: acceptance length "
    assert plain(comparison.terminal(held[0])).startswith(f"REGRESSED: {said}")
    assert comparison.markdown(held[0]).startswith(f"## REGRESSED: {said}")
    assert json.loads(comparison.as_json(held[0]))["headline"].startswith(said)
    answer = "lookup accepts the most draft tokens on these texts"
    assert plain(ranking.terminal(held[1])).startswith(answer)
    assert ranking.markdown(held[1]).startswith(f"## {answer}")
    assert json.loads(ranking.as_json(held[1]))["answer"].startswith(answer)


def test_json_holds_every_change_with_its_interval_band_and_word_and_says_which_decides(held: tuple[Comparison, Ranking]) -> None:
    found = json.loads(comparison.as_json(held[0]))
    assert [one["number"] for one in found["changes"] if one["decides"]] == ["acceptance_length"]
    for one, change in zip(found["changes"], held[0].changes, strict=True):
        assert (one["word"], one["difference"]["low"]) == (change.word, change.difference.low)
        assert (one["ratio"] is None) == (one["scale"] == "points")
    assert found["paired_by"] == ["prompt", "turn", "rendered prompt", "anchor"]
    assert found["prompts"] == {"shared": 16, "units": 16, "own": [16, 16], "rendered_alike": 16}


def test_every_form_says_where_no_prompt_differs(held: tuple[Comparison, Ranking]) -> None:
    pair = held[0]
    assert [one.number.name for one in pair.changes if one.none_differs] == ["emitted_per_round", "accuracy_1"]
    for text in (plain(comparison.terminal(pair)), comparison.markdown(pair)):
        assert text.count("no prompt differs [") == 2
        assert text.count("no prompt differs in ") == 1
    told = {one["number"]: one["no_prompt_differs"] for one in json.loads(comparison.as_json(pair))["changes"]}
    assert [name for name, alike in told.items() if alike] == ["emitted_per_round", "accuracy_1"]


def test_no_line_is_wider_than_a_narrow_terminal(held: tuple[Comparison, Ranking]) -> None:
    for shown in (comparison.terminal(held[0]), ranking.terminal(held[1])):
        for width in (40, 60, 100):
            console = Console(width=width, color_system=None, force_terminal=False)
            with console.capture() as captured:
                console.print(shown)
            assert max(map(len, captured.get().splitlines())) <= width


def test_a_table_of_markdown_has_as_many_cells_in_every_row(held: tuple[Comparison, Ranking]) -> None:
    for text in (comparison.markdown(held[0]), ranking.markdown(held[1])):
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len(rows) > 4
        assert {line.count("|") for line in rows} in ({8}, {6})


def test_a_ranking_as_json_says_why_no_speeds_are_ranked(held: tuple[Comparison, Ranking]) -> None:
    found = json.loads(ranking.as_json(held[1]))
    assert found["by_speed"] is None
    assert found["no_speed"].startswith("not every run has step times")
    assert {tuple(one["places"]) for one in found["by_acceptance_length"] if one["name"] == "none"} == {(5, 5)}
