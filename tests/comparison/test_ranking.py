from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from driftcli.comparison.answers import answer, remarks
from driftcli.comparison.contestants import LOOKUP, NONE
from driftcli.comparison.ranking import Place, Ranking, rank
from driftcli.domain import Absent
from driftcli.errors import RunError
from driftcli.statistics.costs import RoundCosts, StepCosts
from driftcli.statistics.walks import walk
from driftcli.traces.reader import Run
from tests.comparison.runs import SOUND, WORSE, written
from tests.report.synthetic import Life, Recipe

BASE = Recipe(SOUND)
WORST = Life(fresh=0.2)
TIMES = StepCosts(1, 0.002, 0.002, tuple(0.01 + 0.0001 * tokens for tokens in range(9)))


def ranked(*runs: Run, force: bool = False) -> Ranking:
    return rank(runs, tuple(run.path.name for run in runs), 0.02, force=force)


def by_name(places: list[Place] | tuple[Place, ...]) -> dict[str, Place]:
    return {one.name: one for one in places}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run, Run]:
    folder = tmp_path_factory.mktemp("ranked")
    return written(folder, BASE, "good"), written(folder, Recipe(WORSE), "worse"), written(folder, Recipe(WORST), "worst")


def test_drafters_that_surely_differ_have_places_of_their_own_and_none_is_last_with_one_token(three: tuple[Run, Run, Run]) -> None:
    """All texts are one token over and over, so that a lookup is always right."""
    places = ranked(*three).by_length
    assert [(one.name, one.first, one.last) for one in places] == [
        (LOOKUP, 1, 1),
        ("good", 2, 2),
        ("worse", 3, 3),
        ("worst", 4, 4),
        (NONE, 5, 5),
    ]
    values = by_name(list(places))
    assert (values[LOOKUP].value.value, values[NONE].value.value) == (9.0, 1.0)
    assert values["good"].like == ()


def test_the_order_in_which_runs_are_named_changes_no_place(three: tuple[Run, Run, Run]) -> None:
    forwards, backwards = ranked(*three), ranked(*reversed(three))
    assert by_name(list(forwards.by_length)) == by_name(list(backwards.by_length))


def test_a_drafter_measured_twice_shares_its_places(three: tuple[Run, Run, Run], tmp_path: Path) -> None:
    places = by_name(list(ranked(three[0], three[1], written(tmp_path, BASE, "again")).by_length))
    assert places["good"].like == ("again",)
    assert (places["good"].first, places["good"].last) == (places["again"].first, places["again"].last) == (2, 3)


def test_the_answer_names_the_first_and_whom_it_is_not_told_from(three: tuple[Run, Run, Run]) -> None:
    sentence = answer(ranked(*three))
    assert sentence.startswith("lookup accepts the most draft tokens on these texts, acceptance length 9.00")
    assert sentence.endswith("at draft length 8, ahead of all others on 16 prompts")


def test_each_run_is_held_against_the_first_in_the_five_words(three: tuple[Run, Run, Run]) -> None:
    assert [one.word for one in ranked(*three).against_first] == ["regressed", "regressed"]


def test_with_too_few_prompts_every_place_is_possible(tmp_path: Path) -> None:
    few = replace(BASE, prompts=BASE.prompts[:4])
    lives = {"a": SOUND, "b": WORSE, "c": WORST}
    ranking = ranked(*(written(tmp_path, replace(few, life=life), name) for name, life in lives.items()))
    assert {(one.first, one.last) for one in ranking.by_length} == {(1, 5)}
    assert isinstance(ranking.by_length[0].value, Absent)
    assert "it is not told from" in answer(ranking)


def test_without_step_times_speeds_are_not_ranked_and_it_says_why(three: tuple[Run, Run, Run]) -> None:
    ranking = ranked(*three)
    assert (ranking.by_speed, ranking.untimed) == ([], "not every run has step times; the mitigations probe times them")


def test_by_speed_each_drafts_as_many_as_are_fastest_for_it_and_none_is_plain_decoding(tmp_path: Path) -> None:
    timed = replace(BASE, costs=(TIMES,))
    lives = {"good": SOUND, "worst": WORST, "middle": WORSE}
    ranking = ranked(*(written(tmp_path, replace(timed, life=life), name) for name, life in lives.items()))
    places = by_name(list(ranking.by_speed))
    assert any(
        line.startswith("speeds: each run by the times of its own steps (by hand, after 100 tokens, batch 1)") for line in remarks(ranking)
    )
    assert places["worst"].drafts < places["good"].drafts
    assert (places[NONE].value.value, places[NONE].drafts) == (1.0, 0)
    assert places[LOOKUP].value.value == pytest.approx(9 * 0.01 / 0.0108)  # eight right drafts for one step over nine tokens
    assert places["good"].value.value == pytest.approx(_speed(tmp_path / "good", places["good"].drafts))


def test_where_whole_rounds_were_timed_a_lookup_has_no_speed_and_it_is_said(tmp_path: Path) -> None:
    """A round of a drafter holds its drafting, which a lookup's would not."""
    timed = replace(BASE, costs=(RoundCosts(1, tuple(0.01 + 0.002 * drafts for drafts in range(9))),))
    ranking = ranked(*(written(tmp_path, replace(timed, life=life), name) for name, life in {"a": SOUND, "b": WORSE, "c": WORST}.items()))
    assert {one.name for one in ranking.by_speed} == {"a", "b", "c", NONE}
    assert any(line.endswith("whole rounds of a drafter do not say what its own would take") for line in remarks(ranking))


def _speed(run: Path, drafts: int) -> float:
    """Expected speed on every other prompt from the second on, straight from the files."""
    rows = [row for file in sorted((run / "steps").glob("baseline-*")) for row in pq.ParquetFile(file).read().to_pylist()]
    spent = tokens = 0.0
    for prompt in sorted({row["prompt"] for row in rows})[1::2]:
        own = {(row["anchor"], row["depth"]): row["match"] for row in rows if row["prompt"] == prompt and row["feed"] == "forced"}
        anchors = sorted({anchor for anchor, _ in own})
        kept = np.array([next((d for d in range(drafts) if not own[anchor, d + 1]), drafts) for anchor in anchors])
        visited = walk(kept)
        spent += visited.sum() * (0.002 * drafts + 0.01 + 0.0001 * drafts)
        tokens += (visited * (kept + 1)).sum()
    return tokens * 0.01 / spent


def test_drafters_of_other_depths_are_ranked_at_the_shortest_without_force(three: tuple[Run, Run, Run], tmp_path: Path) -> None:
    ranking = ranked(*three, written(tmp_path, Recipe(Life(lost=(0, 0.08, 0.08))), "shallow"))
    assert {one.drafts for one in ranking.by_length} == {3, 0}
    assert [one.what for one in ranking.differences] == ["depth"]


def test_given_replies_are_no_texts_to_rank_drafters_on(tmp_path: Path) -> None:
    given = replace(BASE, argmax_share=0.5)
    with pytest.raises(RunError, match="not the target's own"):
        ranked(*(written(tmp_path, given, name) for name in "abc"))


def test_a_leader_that_is_not_told_from_another_says_about_how_many_prompts_would_tell(tmp_path: Path) -> None:
    """Two heads that differ a little, drawn by other luck: their lengths are apart by less than 16 prompts show."""
    lives = {"a": (Life(fresh=0.6), 7), "b": (Life(fresh=0.55), 8), "c": (Life(fresh=0.2), 7)}
    places = by_name(list(ranked(*(written(tmp_path, Recipe(life, seed=seed), name) for name, (life, seed) in lives.items())).by_length))
    assert places["a"].like == ("b",)
    assert places["a"].more_prompts == places["b"].more_prompts
    assert places["c"].more_prompts is None
