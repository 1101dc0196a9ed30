from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from driftcli.comparison.answers import along, remarks
from driftcli.comparison.losses import Losses
from driftcli.comparison.ranking import Ranking, rank
from driftcli.domain import Absent, Estimate
from driftcli.traces.reader import Run
from tests.comparison.runs import linked, written
from tests.report.synthetic import DRIFTING, Life, Recipe

ONE_PASS = "it guesses a block of tokens in one pass"


def right(run: Run, feed: str, depth: int) -> float:
    """Share of right guesses of a feed at a depth, straight from the files."""
    rows = [row for file in (run.path / "steps").glob("baseline-*.parquet") for row in pq.ParquetFile(file).read().to_pylist()]
    found = [row["match"] for row in rows if row["feed"] == feed and row["depth"] == depth]
    return sum(found) / len(found)


@pytest.fixture(scope="module")
def ranking(tmp_path_factory: pytest.TempPathFactory) -> Ranking:
    folder = tmp_path_factory.mktemp("losses")
    fed = written(folder, Recipe(DRIFTING), "fed")
    block = linked(fed.path, folder / "block", lambda held: held["pair"].update(family="block", no_recursion=ONE_PASS))
    lm = written(folder, Recipe(Life(self_feeding=False)), "lm")
    return rank((fed, block, lm), ("fed", "block", "lm"), 0.02)


def by_name(ranking: Ranking) -> dict[str, Losses]:
    return {one.name: one for one in ranking.losses}


def test_a_loss_is_of_the_right_first_guesses_of_the_same_tokens(ranking: Ranking) -> None:
    run, found = ranking.pairing.runs[0], by_name(ranking)["fed"]
    for depth in (1, 2, 5, 8):
        own, first = right(run, "forced", depth), right(run, "fresh", depth) if depth > 1 else right(run, "forced", 1)
        numbers = [one[depth - 1] for one in (found.right, found.first, found.lost)]
        assert [one.value for one in numbers] == pytest.approx([own, first, 1 - own / first])
    last = found.lost[-1]
    assert isinstance(last, Estimate) and 0.5 < last.low < last.high < 0.7  # the recipe loses 0.6 of them


def test_a_block_loses_the_same_to_guessing_side_by_side_and_a_model_that_feeds_on_tokens_alone_to_neither(ranking: Ranking) -> None:
    fed, block, lm = (by_name(ranking)[name] for name in ("fed", "block", "lm"))
    assert (fed.to, block.to, lm.to) == ("feeding on its own state", "guessing side by side", None)
    assert [one.value for one in fed.lost] == [one.value for one in block.lost]
    assert all(isinstance(one, Absent) for one in (*lm.lost, *lm.first, lm.accepted))
    assert all(isinstance(one, Estimate) for one in lm.right)


def test_the_rows_name_what_each_loses_and_why_one_loses_nothing_of_the_kind(ranking: Ranking) -> None:
    rows = {row[0]: row for row in along(ranking)}
    assert rows["fed"][1].count("%") == len((1, 2, 4, 8))
    assert rows["lm"][2:] == ("-", "-", "neither")
    assert rows["block"][4] == "guessing side by side"
    said = "\n".join(remarks(ranking))
    assert "lost: of the tokens that the same drafter guesses right as its first" in said
    assert "lm loses to neither: " in said


def test_a_ranking_of_single_draft_tokens_says_nothing_of_chains(tmp_path: Path) -> None:
    runs = [
        written(tmp_path, Recipe(Life(lost=(0,), growth=(1,), moved=(0,), fresh=fresh)), name)
        for name, fresh in (("a", 0.7), ("b", 0.4), ("c", 0.3))
    ]
    found = rank(tuple(runs), ("a", "b", "c"), 0.02)
    assert found.pairing.depth == 1
    assert not any(line.startswith("by depth:") for line in remarks(found))
