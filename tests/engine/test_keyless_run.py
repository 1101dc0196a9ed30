"""Runs of drafters whose chains add no keys: their rows, and what reports say of them and leave out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from driftcli.domain import RunSpec
from driftcli.engine.forecast import timed_speed
from driftcli.engine.run import measure
from driftcli.loading.outline import outline_pair
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.mitigations.attention import AttentionRegularisation
from driftcli.mitigations.block_serving import length_typed
from driftcli.mitigations.draft_window import DraftWindow
from driftcli.report.evidence import attention_curves, main_curves
from driftcli.report.html import page
from driftcli.report.json import render
from driftcli.report.notes import remarks
from driftcli.report.verdict import judge
from driftcli.traces.reader import Run, read_run
from probes import BATTERY
from probes.chain_length import ChainLength
from probes.noise import InputNoise
from probes.switches import Switches
from tests.engine.test_run import assert_same_rows, job, silent, table
from tests.families.assistant.cases import write_pair
from tests.families.feed_forward.cases import CASES, write
from tests.tiny import prompts

SPEC = RunSpec(depth=3, max_new_tokens=14, batch_size=9)
PROBES = (ChainLength(), Switches())
HEADS = ("medusa", "hydra", "speculator", "speculator-tied")
NO_KEYS, NO_ATTENTION = "a chain adds no keys of its own", "it has no attention"


@pytest.fixture(scope="module", params=["assistant", *HEADS])
def pair(request: pytest.FixtureRequest, models: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedPair:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "assistant":
        target, drafter = write_pair("shared", folder)
    else:
        target, drafter = models / "target", write(CASES[request.param], folder / request.param)
    return load_pair(str(target), str(drafter), torch.device("cpu"), "float32")


@pytest.fixture(scope="module")
def run(pair: LoadedPair, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(measure(job(pair, tmp_path_factory.mktemp("run") / "r", prompts(9), spec=SPEC, battery=PROBES), silent))


def test_the_same_request_gives_the_same_rows(run: Run, pair: LoadedPair, tmp_path: Path) -> None:
    again = measure(job(pair, tmp_path / "r", list(reversed(prompts(9))), spec=SPEC, battery=PROBES), silent)
    assert_same_rows(run.path, again)


def test_rows_hold_what_the_drafter_has_and_null_for_the_rest(run: Run, pair: LoadedPair) -> None:
    steps = table(run.path, "steps")
    baseline = steps[steps.condition == "baseline"]
    assert set(baseline.feed) == {"fresh", "forced", "free"}
    shares = [f"share_{name}" for name in ("template", "prompt", "verified", "ahead")]
    assert baseline[[*shares, "entropy"]].isna().all().all() == (not pair.card.attends)
    assert baseline.rms.isna().all() == (pair.card.no_recursion is not None)
    forced = baseline[baseline.feed == "forced"]
    assert forced.draft_prob.notna().all() and forced.drafted.notna().all()
    if pair.card.attends:
        assert (baseline[shares].sum(axis=1) + baseline.share_sink.fillna(0) - 1).abs().max() < 1e-5
        assert forced.share_ahead.max() == 0 < baseline[(baseline.feed == "fresh") & (baseline.depth == 3)].share_ahead.min()
    assert len(table(run.path, "streams")) == 2 * len(prompts(9))


def test_a_control_is_a_first_guess_from_a_later_anchor(run: Run) -> None:
    steps = table(run.path, "steps")
    baseline = steps[steps.condition == "baseline"].set_index(["prompt", "turn", "anchor"])
    first, control = (baseline[(baseline.depth == depth) & (baseline.feed == feed)] for depth, feed in ((1, "forced"), (3, "fresh")))
    shared = [key for key in control.index if (*key[:2], key[2] + 2) in first.index]
    assert len(shared) > 5
    for prompt, turn, anchor in shared:
        assert control.loc[(prompt, turn, anchor)].drafted == first.loc[(prompt, turn, anchor + 2)].drafted


def test_reports_say_what_is_not_defined_and_why(run: Run, pair: LoadedPair) -> None:
    verdict, card = judge(run, PROBES), pair.card
    absent = json.loads(render(run, verdict))["baseline"]["by_depth"][2]["absent"]
    assert NO_ATTENTION in absent["prompt"] if not card.attends else "prompt" not in absent
    assert (NO_KEYS if card.attends else NO_ATTENTION) in absent["ahead"]
    assert (verdict.axes["drift"].state == "not applicable") is (card.no_recursion is not None)
    said = " ".join(remarks(run))
    assert ("no keys of its own" if card.attends else NO_ATTENTION) in said
    names = [curve.name for curve in attention_curves(run)[1]]
    assert names == ([] if not card.attends else ["sink", "template", "prompt", "verified", "recent"])
    assert any("RMS" in curve.name for curve in main_curves(run)) is (card.no_recursion is None)
    html = page.render(run, verdict)
    assert ("Not applicable: it has no attention" in html) is not card.attends


def test_no_condition_is_asked_that_has_no_meaning(pair: LoadedPair) -> None:
    card = pair.card
    biases = AttentionRegularisation().conditions(card, SPEC)
    assert bool(biases) is bool(DraftWindow().conditions(card, SPEC)) is card.attends
    assert not any(one.settings.chain_bias for one in biases)
    assert bool(InputNoise().conditions(card, SPEC)) is (card.no_recursion is None)
    deep = [one for one in ChainLength().conditions(card, SPEC) if one.settings.depth > SPEC.depth]
    assert bool(deep) is (card.family == "assistant")
    assert [one.name for one in Switches().conditions(card, SPEC)] == (["switch-position-the-anchor"] if card.attends else [])


def test_a_whole_battery_runs_and_is_judged(pair: LoadedPair, tmp_path: Path) -> None:
    spec = RunSpec(depth=3, max_new_tokens=10, batch_size=9, quick=True)
    whole = read_run(measure(job(pair, tmp_path / "r", prompts(4), spec=spec, battery=BATTERY), silent))
    verdict = judge(whole, BATTERY)
    assert not whole.failed and verdict.axes["wiring"].state in ("inconclusive", "open", "miswired", "healthy")
    json.loads(render(whole, verdict))


def test_an_outline_tells_the_same_card_as_the_loaded_pair(pair: LoadedPair) -> None:
    target, drafter = pair.target.source, pair.card.drafter
    told = outline_pair(str(target.folder), drafter.name).card
    for name in ("family", "no_recursion", "readings", "alternatives", "token_offset", "keyless", "deepest", "guesses_side_by_side"):
        assert getattr(told, name) == getattr(pair.card, name), name


def test_engines_are_told_what_they_can_be_told(pair: LoadedPair) -> None:
    typed = length_typed(2, pair.card)
    if pair.card.attends:
        assert '"num_speculative_tokens": 2' in typed["vllm"] and "num_assistant_tokens=2" in typed["transformers"]
    else:
        assert "0.33 has no class" in typed["vllm"] and "not known to serve" in typed["sglang"]


def test_a_pair_can_be_timed_ahead_whatever_its_layers_and_heads(pair: LoadedPair) -> None:
    speed = timed_speed(pair, prompts(2), 2)
    assert speed.fresh.of(1, 48) > 0 and speed.read.of(1, 48) > 0
