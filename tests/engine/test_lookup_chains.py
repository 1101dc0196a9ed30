"""A lookup as drafter: what it drafts is what vLLM and transformers look up, a run of it is the floor of any other, and nothing else is told."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, takewhile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from driftcli.conditions import DraftSettings, Plan
from driftcli.domain import Absent, Estimate, RunSpec
from driftcli.engine.drafted import NOTHING, Drafted
from driftcli.engine.lookup_chains import draft_lookups
from driftcli.engine.run import measure
from driftcli.engine.serving import serve
from driftcli.families.lookup.lookup import Lookup
from driftcli.loading.pair import LoadedPair, load_pair
from driftcli.report import markdown
from driftcli.report.console import plain
from driftcli.report.html import page
from driftcli.report.json import report
from driftcli.report.terminal import whole
from driftcli.report.verdict import judge
from driftcli.statistics.curves import calibration_error, log_likelihood, lookup_drafts, overconfidence, walk_acceptance_length
from driftcli.traces.reader import Run, read_run
from driftcli.traces.samples import chain, reply
from probes.chain_length import ChainLength
from probes.confidence import Confidence
from probes.controls import Controls
from tests.engine.rounds import drafted_by_generate
from tests.engine.test_run import assert_same_rows, job, silent, table
from tests.tiny import bare_trajectory, prompts, trajectories

DEPTH = 4
SPEC = RunSpec(depth=DEPTH, max_new_tokens=24, batch_size=9)
BATTERY = (ChainLength(), Confidence(), Controls())


@pytest.fixture(scope="module")
def pair(models: Path) -> LoadedPair:
    return load_pair(str(models / "target"), "lookup", torch.device("cpu"), "float32")


@pytest.fixture(scope="module")
def run(pair: LoadedPair, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(measure(job(pair, tmp_path_factory.mktemp("run") / "r", prompts(9), spec=SPEC, battery=BATTERY), silent))


def drafts(found: Drafted, place: int) -> list[int]:
    """What an anchor drafts, depth by depth as far as there is something."""
    tokens = [int(queries.guesses.drafted[place]) for queries in found.forced]
    return tokens[: tokens.index(NOTHING)] if NOTHING in tokens else tokens


@pytest.mark.parametrize(("fewest", "most"), [(1, 3), (2, 2), (3, 5)])
def test_every_draft_is_what_a_plain_search_finds(fewest: int, most: int) -> None:
    ids = np.random.default_rng(5).integers(0, 4, 60).tolist()
    trajectory = bare_trajectory("one", torch.tensor(ids), 10, {})
    found = draft_lookups(Lookup(fewest, most), [trajectory], DraftSettings(DEPTH), DEPTH, free=True, to_end=True)
    some = 0
    for place in range(found.n_anchors):
        text, wanted = ids[: 10 + place + 1], list[int]()
        for size in range(most, fewest - 1, -1):
            starts = [at for at in range(len(text) - size) if text[at : at + size] == text[-size:]]
            if starts:
                wanted = text[starts[0] + size : starts[0] + size + DEPTH]
                break
        assert drafts(found, place) == wanted
        some += bool(wanted)
    assert some > 10
    assert found.free == found.forced
    assert found.kept_behind is not None and len(found.kept_behind) == DEPTH - 1


def test_every_draft_is_that_of_transformers_prompt_lookup_in_its_own_generation(
    pair: LoadedPair, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = AutoModelForCausalLM.from_pretrained(models / "target").eval()
    end = target.generation_config.eos_token_id  # at which transformers cuts a draft
    rounds, compared, kept = drafted_by_generate(PromptLookupCandidateGenerator, monkeypatch), 0, 0
    for trajectory in trajectories(pair.target, prompts(6), [], 40):  # type: ignore[arg-type]
        rounds.clear()
        start, ids = trajectory.prompt_length, trajectory.ids.tolist()
        found = draft_lookups(Lookup(), [trajectory], DraftSettings(DEPTH), DEPTH, free=False)
        settings = {"prompt_lookup_num_tokens": DEPTH, "max_matching_ngram_size": 3, "do_sample": False}
        out = target.generate(trajectory.ids[None, :start], max_new_tokens=len(ids) - start, **settings)
        assert out[0].tolist() == ids
        for (anchor, seen), (after, _) in pairwise(rounds):
            if start <= anchor < start + found.n_anchors:
                assert seen == list(takewhile(lambda token: token != end, drafts(found, anchor - start)))
                compared, kept = compared + 1, kept + after - anchor - 1
    assert compared > 10
    assert kept > 0


def test_the_run_keeps_what_the_floor_of_its_texts_keeps(run: Run) -> None:
    sums = run.sums()
    assert sums["walk_rounds"].tolist() == sums["lookup_rounds"].tolist()
    assert sums["kept_by_length"][:, -1].tolist() == sums["lookup_kept"].tolist()
    own, floor = run.estimate(walk_acceptance_length), run.estimate(lookup_drafts)
    assert isinstance(own, Estimate) and isinstance(floor, Estimate)
    assert own.value == pytest.approx(1 + floor.value)
    assert own.value > 1


def test_the_same_request_gives_the_same_rows(run: Run, pair: LoadedPair, tmp_path: Path) -> None:
    assert_same_rows(run.path, measure(job(pair, tmp_path / "r", list(reversed(prompts(9))), spec=SPEC, battery=BATTERY), silent))


def test_rows_hold_no_distribution_no_attention_and_no_state_and_what_is_missing_is_no_match(run: Run) -> None:
    steps = table(run.path, "steps")
    nothing = [name for name in steps if name.startswith("share_")] + ["draft_prob", "draft_entropy", "entropy", "rms", "state_cosine"]
    assert steps[nothing].isna().all(axis=None)
    assert len(table(run.path, "heads")) == 0
    missing = steps[steps.drafted.isna()]
    assert 0 < len(missing) < len(steps)
    assert not missing.match.dropna().any()
    assert set(steps.wanted_prob.dropna()) == {0.0, 1.0}
    assert run.sink_texts[0] == 0


def test_plans_charge_what_was_found_alone(run: Run) -> None:
    steps = table(run.path, "steps").query("condition == 'baseline' and feed == 'forced' and on_walk")
    sent = steps.groupby(["prompt", "turn", "anchor"])["drafted"].count()
    found = run.plan_sums(Plan("baseline", DEPTH))["rounds_by_sent"].sum(axis=0)
    assert found.tolist() == [int((sent == count).sum()) for count in range(DEPTH + 1)]
    assert found[0] > 0 and found[1:].sum() > 0


def test_neither_likelihood_nor_calibration_nor_a_floor_is_told_of_it(run: Run) -> None:
    for number in (log_likelihood, overconfidence, calibration_error):
        assert all(isinstance(one, Absent) for one in run.by_depth(number))
    verdict = judge(run, BATTERY)
    assert {finding.code for finding in verdict.findings} & {"LOOKUP-ENOUGH", "PROMPT-UNUSED", "LOAD-BROKEN", "MISCALIBRATED"} == set()
    assert verdict.axes["drift"].state == "not applicable"
    assert "has neither states nor attention" in verdict.headline
    told = report(run, verdict)
    assert told["baseline"]["by_depth"][1]["template"] is None
    assert told["baseline"]["by_depth"][1]["compounding"] is None


def test_a_round_is_shown_as_far_as_it_proposes(run: Run) -> None:
    shown = reply(run, "p0")
    steps = table(run.path, "steps").query("condition == 'baseline' and feed == 'forced' and prompt == 'p0' and turn == 0 and on_walk")
    counts = steps.groupby("anchor")["drafted"].count()
    assert [len(one.drafted) for one in shown.rounds] == counts.tolist()
    none = int(counts[counts == 0].index[0])
    assert all(step.chain.drafted is None and step.chain.right is False for step in chain(run, "p0", 0, none).steps)


def test_a_served_lookup_drafts_what_the_engine_drafts() -> None:
    ids = np.random.default_rng(6).integers(0, 4, 50).tolist()
    trajectory = bare_trajectory("one", torch.tensor(ids), 10, {})
    found = draft_lookups(Lookup(), [trajectory], DraftSettings(DEPTH), DEPTH, free=False)
    served = serve(Lookup(), 60, DEPTH)
    served.read(torch.tensor([ids[:8]]), {})
    served.crop(5)
    served.read(torch.tensor([ids[5:10]]), {})
    for place in range(found.n_anchors):
        guesses = [served.read(torch.tensor([[ids[10 + place]]]), {})]
        for _ in range(DEPTH - 1):
            guesses.append(served.follow(guesses[-1]))
        wanted = drafts(found, place)
        assert [int(guess) for guess in guesses] == [*wanted, *[ids[10 + place]] * (DEPTH - len(wanted))]


def test_a_reading_of_a_lookup_and_wrong_sizes_are_refused_in_a_sentence(models: Path, usage: Callable[..., str]) -> None:
    assert usage(str(models / "target"), "lookup", "as_served:vllm").startswith(
        "--reading as_served:vllm: a lookup copies tokens from the text, which every system does alike; leave it out"
    )
    for name in ("lookup:3,1", "lookup:0,3", "lookup:3", "lookup:", "lookup:1,65", "lookup:a,b"):
        assert f"--drafter {name}: expected the fewest and the most tokens that are looked up" in usage(str(models / "target"), name)


def test_every_report_says_what_was_proposed_and_nothing_of_attention_or_state(run: Run) -> None:
    verdict = judge(run, BATTERY)
    told = report(run, verdict)["baseline"]["by_depth"][0]
    steps = table(run.path, "steps").query("condition == 'baseline' and feed == 'forced' and depth == 1")
    assert told["proposed"] == pytest.approx(steps.drafted.notna().mean())
    assert told["absent"]["verified"] == told["absent"]["entropy"] == "it has no attention"
    for text in (plain(whole(run, verdict)), markdown.render(run, verdict)):
        assert "proposed" in text
        assert "own draft tokens" not in text and "RMS" not in text
    shown = page.render(run, verdict)
    assert "Not applicable: it has no attention" in shown
    assert '"copies":true' in shown
    assert "the last tokens of the text are looked up" in shown
