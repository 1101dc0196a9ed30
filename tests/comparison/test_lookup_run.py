"""A run of a lookup among others: it keeps its name, and the lookup that others are ranked against does not stand there twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from driftcli.comparison.answers import remarks
from driftcli.comparison.contestants import LOOKUP, NGRAM
from driftcli.comparison.names import names
from driftcli.comparison.ranking import rank
from driftcli.domain import PairCard, Sourced
from driftcli.families.early_exit.early_exit import EarlyExit
from driftcli.families.lookup.lookup import Lookup
from driftcli.traces.reader import Run
from tests.comparison.runs import SOUND, WORSE, written
from tests.report.synthetic import Recipe


def of(run: Run, drafter: Lookup) -> Run:
    """A run as if a lookup had drafted in it."""
    card: PairCard = replace(
        run.pair, drafter=drafter.card, family="lookup", record={"tokens": Sourced((drafter.fewest, drafter.most), "")}
    )
    return replace(run, pair=card)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    folder = tmp_path_factory.mktemp("lookup")
    return written(folder, Recipe(SOUND), "good"), written(folder, Recipe(WORSE), "worse")


@pytest.mark.parametrize(("drafter", "beside"), [(Lookup(), False), (Lookup(5, 5), True)])
def test_the_floor_stands_beside_a_lookup_of_other_tokens_alone(runs: tuple[Run, Run], drafter: Lookup, beside: bool) -> None:
    ranking = rank((runs[0], of(runs[1], drafter)), ("good", drafter.name), 0.02, force=True)
    places = {(one.name, one.family) for one in ranking.by_length}
    assert ((LOOKUP, NGRAM) in places) == beside
    assert (drafter.name, "lookup") in places
    assert any("lookup: the last 1 to 3 tokens" in line for line in remarks(ranking)) == beside


def test_drafters_without_files_are_named_in_full(runs: tuple[Run, Run]) -> None:
    exit = replace(runs[0], pair=replace(runs[0].pair, drafter=EarlyExit(4).card(runs[0].pair.target)))
    assert names((of(runs[1], Lookup()), exit)) == ("lookup:1,3", "early-exit:4")
