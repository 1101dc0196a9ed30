"""What a drafter does not have is null in the traces, and no number is made of it: tokens not proposed, distributions, attention."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from driftcli.conditions import BASELINE, Condition, DraftSettings, Plan, StopRule
from driftcli.engine.drafted import NOTHING, Drafted, Guesses, Queries
from driftcli.engine.packing import Packing
from driftcli.engine.rows import cell_rows, find_sinks, rounds_to_end
from driftcli.errors import RunError
from driftcli.statistics import curves
from driftcli.traces.plans import lacks_for_stop, plan_sums
from driftcli.traces.sums import Grid, condition_sums, grids
from driftcli.traces.units import Units
from driftcli.traces.writer import write_parquet
from tests.tiny import bare_trajectory

IDS = [1, 2, 3, 7, 8, 9, 7, 8, 9, 4, 7]
FIRST, DEPTH, ANCHORS, EVERY = 3, 2, 6, 7
DRAFTED = ([NOTHING, NOTHING, NOTHING, 8, 9, 7], [NOTHING, NOTHING, NOTHING, 9, NOTHING, 8])  # kept: 0 0 0 2 1 0
CONDITION = Condition(BASELINE, DraftSettings(DEPTH), full=True)
HELD = 2 * ANCHORS - 7  # queries that proposed a token
TEXT = bare_trajectory("one", torch.tensor(IDS), FIRST, {})


def queries(drafted: list[int], depth: int, *, distribution: bool) -> Queries:
    ids = torch.tensor(drafted)
    wanted = torch.tensor(IDS[FIRST + depth : FIRST + depth + len(drafted)])
    some = torch.where(ids == NOTHING, torch.nan, 0.5)
    one_hot = (ids == wanted).float()
    return Queries(
        Guesses(ids, some, torch.full_like(some, 0.25), some, some / 2) if distribution else Guesses(ids, None, one_hot, None), None
    )


def made(*, distribution: bool) -> Drafted:
    cpu = torch.device("cpu")
    forced = [queries(ids, depth, distribution=distribution) for depth, ids in enumerate(DRAFTED, 1)]
    fresh = queries([*DRAFTED[0], NOTHING], 1, distribution=distribution)
    return Drafted(Packing((EVERY,), cpu), Packing((ANCHORS,), cpu), fresh, forced, [], torch.zeros(EVERY - ANCHORS, dtype=torch.long))


def read(folder: Path, *, distribution: bool) -> tuple[pa.Table, Grid, Units]:
    (rows,) = cell_rows(CONDITION, [TEXT], made(distribution=distribution), [None], 0)
    assert rows.heads == []
    path = folder / "steps" / "baseline-000000000000.parquet"
    path.parent.mkdir(parents=True)
    write_parquet(path, "steps", rows.steps)
    units = Units.of(pa.table({"prompt": ["one"], "group": [None], "rendered_sha256": ["0"]}))
    forced = grids(folder, BASELINE, units)["forced"]
    assert forced is not None
    return pq.read_table(path), forced, units


def test_a_token_that_was_not_proposed_is_null_and_no_match_and_likely_with_0(tmp_path: Path) -> None:
    table, forced, _ = read(tmp_path / "r", distribution=True)
    rows = table.to_pandas().sort_values(["anchor", "depth"])
    none = rows[rows["drafted"].isna()]
    assert len(none) == 7
    assert not none["match"].any()
    assert none["wanted"].tolist() == [8, 9, 9, 7, 7, 8, 4]
    assert (none["wanted_prob"] == 0).all()
    assert none[["draft_prob", "draft_entropy", "confidence"]].isna().all(axis=None)
    there = rows.drop(none.index)
    assert there["draft_prob"].tolist() == there["draft_entropy"].tolist() == [0.5] * HELD
    assert there["confidence"].tolist() == [0.25] * HELD
    assert forced.accepted.tolist() == [0, 0, 0, 2, 1, 0]
    assert forced.proposed.tolist() == [0, 0, 0, 2, 1, 2]


def test_plans_and_rounds_charge_only_what_was_proposed(tmp_path: Path) -> None:
    _, forced, _ = read(tmp_path / "r", distribution=True)
    assert {drafts: plan_sums(forced, None, Plan(BASELINE, drafts))["rounds_by_sent"].tolist() for drafts in (1, 2)} == {
        1: [[3, 2]],  # anchors 3, 4, 5, 6 and, one draft token and the bonus token later, 8
        2: [[3, 0, 1]],  # anchors 3, 4, 5 and 6
    }
    assert rounds_to_end(made(distribution=True), [TEXT], DEPTH) == [[6, 5]]


def test_without_attention_there_is_no_sink_and_no_share_and_no_number_of_them(tmp_path: Path) -> None:
    drafted = made(distribution=True)
    assert find_sinks(drafted.fresh.masses, drafted.every, [TEXT], 0) == [None]
    table, forced, units = read(tmp_path / "r", distribution=True)
    assert all(table[name].null_count == len(table) for name in table.column_names if name.startswith("share_") or name == "entropy")
    sums = condition_sums({"fresh": None, "forced": forced, "free": None}, units, DEPTH)
    for number in (curves.share("forced", "sink"), curves.share("forced", "prompt"), curves.entropy("forced")):
        assert np.isnan(number(sums)).all()
    assert lacks_for_stop(BASELINE, forced, StopRule("prompt", 0.5)) == "baseline has no prompt of its guesses, which the rule looks at"


def test_guesses_without_a_distribution_have_neither_likelihood_nor_confidence_but_cover_every_token(tmp_path: Path) -> None:
    _, forced, units = read(tmp_path / "r", distribution=False)
    sums = condition_sums({"fresh": None, "forced": forced, "free": None}, units, DEPTH, sampled=True)
    for number in (curves.log_likelihood, curves.overconfidence, curves.calibration_error):
        assert np.isnan(number(sums)).all()
    assert curves.covered(sums).tolist() == [1.0]
    assert (float(sums["sampled_rounds"][0]), float(sums["sampled_kept"][0])) == (4, 2)  # one-hot drafts: the leading matches


def test_only_guesses_with_a_distribution_count_towards_likelihood_and_confidence(tmp_path: Path) -> None:
    _, forced, units = read(tmp_path / "r", distribution=True)
    sums = condition_sums({"fresh": None, "forced": forced, "free": None}, units, DEPTH)
    assert float(sums["guesses_by_confidence"].sum()) == float(sums["forced_likely"].sum()) == HELD
    assert curves.log_likelihood(sums).tolist() == [pytest.approx([np.log(0.25)] * DEPTH)]


def test_a_number_that_the_models_computed_wrong_is_still_refused_beside_missing_ones(tmp_path: Path) -> None:
    drafted = made(distribution=True)
    first = drafted.forced[0]
    assert first.guesses.draft_prob is not None
    broken = replace(first, guesses=replace(first.guesses, draft_prob=torch.full((ANCHORS,), torch.nan)))
    (rows,) = cell_rows(CONDITION, [TEXT], replace(drafted, forced=[broken, drafted.forced[1]]), [None], 0)
    with pytest.raises(RunError, match="draft_prob: the models computed NaN"):
        write_parquet(tmp_path / "steps.parquet", "steps", rows.steps)
