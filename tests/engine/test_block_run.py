"""A run of a block drafter: its rows, what is told of them, and that its draft lengths are drafted apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from driftcli.conditions import DRAFTING, Plan
from driftcli.domain import Absent, Estimate, RunSpec
from driftcli.engine.run import measure
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.mitigations.draft_length import DraftLength
from driftcli.mitigations.probe import Mitigations
from driftcli.report import remedies
from driftcli.report.evidence import main_curves
from driftcli.report.json import estimate_json, render
from driftcli.report.verdict import judge
from driftcli.statistics.payoff import at_length
from driftcli.statistics.survival import Chains, promised
from driftcli.traces.reader import Run, read_run
from probes.block_independence import BlockIndependence
from probes.chain_length import ChainLength
from tests.engine.test_run import assert_same_rows, job, silent, table
from tests.families.block.cases import CASES, write
from tests.tiny import prompts

DEPTH = 4
SPEC = RunSpec(depth=DEPTH, max_new_tokens=14, batch_size=9)
BATTERY = (ChainLength(), BlockIndependence(), Mitigations())


@pytest.fixture(scope="module")
def pair(models: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedPair:
    drafter = write(CASES["zlab"], tmp_path_factory.mktemp("block") / "zlab")
    return load_pair(str(models / "target"), str(drafter), torch.device("cpu"), "float32")


@pytest.fixture(scope="module")
def run(pair: LoadedPair, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(measure(job(pair, tmp_path_factory.mktemp("run") / "r", prompts(9), spec=SPEC, battery=BATTERY), silent))


def test_the_same_request_gives_the_same_rows(run: Run, pair: LoadedPair, tmp_path: Path) -> None:
    again = measure(job(pair, tmp_path / "r", list(reversed(prompts(9))), spec=SPEC, battery=BATTERY), silent)
    assert_same_rows(run.path, again)


def test_a_block_has_rows_of_every_feed_and_no_state(run: Run) -> None:
    steps = table(run.path, "steps")
    baseline = steps[steps.condition == "baseline"]
    assert set(baseline.feed) == {"fresh", "forced", "free"}
    assert baseline.rms.isna().all() and baseline.state_cosine.isna().all()
    shares = baseline[["share_template", "share_prompt", "share_verified", "share_ahead"]].sum(axis=1) + baseline.share_sink.fillna(0)
    assert (shares - 1).abs().max() < 1e-5
    first, control = (baseline[(baseline.depth == 1) & (baseline.feed == feed)].reset_index(drop=True) for feed in ("forced", "fresh"))
    assert (first.drafted == control.drafted).all()
    later = baseline[(baseline.depth == 3) & (baseline.feed == "fresh")].set_index(["prompt", "turn", "anchor"])
    own = baseline[(baseline.depth == 1) & (baseline.feed == "forced")].set_index(["prompt", "turn", "anchor"])
    for key, row in later.iterrows():
        prompt, turn, anchor = key
        if (prompt, turn, anchor + 2) in own.index:
            assert row.drafted == own.loc[(prompt, turn, anchor + 2)].drafted


def test_each_draft_length_is_a_condition_of_its_own(run: Run, pair: LoadedPair) -> None:
    asked = [one.name for one in DraftLength().conditions(pair.card, SPEC)]
    assert asked == [f"{DRAFTING}{length}" for length in range(1, DEPTH)]
    assert set(asked) <= run.measured
    assert [at_length(run, length).condition for length in range(1, DEPTH + 1)] == [*asked, "baseline"]
    steps = table(run.path, "steps")
    short, long = (steps[(steps.condition == name) & (steps.feed == "forced") & (steps.depth == 1)] for name in (asked[0], "baseline"))
    assert len(short) == len(long)
    assert (short.draft_prob.to_numpy() != long.draft_prob.to_numpy()).any()


def test_a_length_that_was_not_drafted_has_no_number_and_none_is_cut_from_a_longer_block(run: Run) -> None:
    found = run.planned(lambda sums: sums["kept"], Plan("drafting-9", 9))
    assert isinstance(found, Absent) and "none of the run's conditions" in found.reason


def test_reports_tell_what_guessing_side_by_side_costs_and_nothing_of_a_state(run: Run) -> None:
    assert [curve.name for curve in main_curves(run)][:3] == ["accuracy, first of a block", "accuracy in its block", "lost side by side"]
    verdict = judge(run, BATTERY)
    assert verdict.axes["drift"].state == "not applicable"
    rows = json.loads(render(run, verdict))["baseline"]["by_depth"]
    assert all(isinstance(row["accuracy_gap"], float) and row["compounding"] is None and row["rms"] is None for row in rows)
    assert rows[0]["block_independence"] in (0.0, None)
    gap = run.by_depth(lambda sums: sums["fresh_match"] - sums["forced_match"])[-1]
    assert isinstance(gap, Estimate)


def test_a_draft_length_is_held_against_a_longer_one_as_deep_as_both_go(run: Run) -> None:
    rows = remedies._by_depth(run, f"{DRAFTING}2", run.reference, estimate_json)
    assert [row["depth"] for row in rows] == [1, 2]  # type: ignore[call-overload, index]
    assert all({"accuracy", "accuracy_before"} <= row.keys() for row in rows)  # type: ignore[union-attr]


def test_what_a_confidence_head_says_is_written_and_held_against_what_survives(run: Run, models: Path, tmp_path: Path) -> None:
    drafter = write(CASES["deepspec-vanilla"], tmp_path / "head")
    pair = load_pair(str(models / "target"), str(drafter), torch.device("cpu"), "float32")
    assert pair.card.record["confidence"].value == "by its output and the token before"
    confident = read_run(measure(job(pair, tmp_path / "r", prompts(9), spec=SPEC, battery=(ChainLength(),)), silent))
    order = ["prompt", "turn", "anchor", "depth"]
    steps = table(confident.path, "steps").astype({"prompt": str}).sort_values(order)
    for told, column in (("confidence", "confidence"), ("draft_prob", "draft_prob")):
        chains = confident.survival[told]  # type: ignore[index]
        assert isinstance(chains, Chains)
        said = steps[(steps.feed == "free") & (steps.condition == "baseline")][column].to_numpy().reshape(-1, DEPTH)
        assert ((said > 0) & (said < 1)).all()
        assert chains.probability == pytest.approx(said)
    right = steps[(steps.feed == "forced") & (steps.condition == "baseline")]["match"].to_numpy(dtype=bool).reshape(-1, DEPTH)
    assert isinstance(chains, Chains)
    assert chains.accepted.tolist() == [next((d for d in range(DEPTH) if not row[d]), DEPTH) for row in right]
    shown = json.loads(render(confident, judge(confident, (ChainLength(),))))["survival"]["confidence"]
    assert [row["promised"]["value"] for row in shown["by_depth"]] == pytest.approx(
        [one.value for one in confident.survival["confidence"].by_depth(promised)]  # type: ignore[union-attr]
    )
    assert run.survival["confidence"] == Absent("it has no confidence head")
