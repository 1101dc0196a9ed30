"""A drafter cut from the target: it drafts what a model of so many layers drafts, shares every weight, and is not copied."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.generation.candidate_generator import EarlyExitCandidateGenerator

from driftcli.conditions import DraftSettings
from driftcli.engine.drafted import Drafted
from driftcli.engine.lm_chains import draft_lm_chains
from driftcli.engine.serving import serve
from driftcli.engine.trajectories import Trajectory
from driftcli.errors import PairError
from driftcli.families.causal_lm.drafter import CausalLm
from driftcli.loading.pair import InVllm, LoadedPair, load_pair
from driftcli.statistics.walks import leading_matches
from tests.engine.rounds import kept_by_generate, served_chains
from tests.tiny import prompts, trajectories

DEPTH, LAYERS = 4, 3


def cut_model(target: Path, folder: Path) -> Path:
    """The target's folder with fewer layers in its config."""
    shutil.copytree(target, folder)
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] = LAYERS
    if config.get("layer_types"):
        config["layer_types"] = config["layer_types"][:LAYERS]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def pair(models: Path) -> LoadedPair:
    return load_pair(str(models / "target"), f"early-exit:{LAYERS}", torch.device("cpu"), "float32")


@pytest.fixture(scope="module")
def naive(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cut_model(models / "target", tmp_path_factory.mktemp("naive") / "cut")


@pytest.fixture(scope="module")
def drafted(pair: LoadedPair) -> list[tuple[Trajectory, Drafted]]:
    assert isinstance(pair.drafter, CausalLm)
    made = trajectories(pair.target, prompts(4), [], 24)  # type: ignore[arg-type]
    return [(one, draft_lm_chains(pair.drafter, [one], DraftSettings(depth=DEPTH), DEPTH, free=True)) for one in made]


def test_it_holds_no_weight_of_its_own_and_leaves_the_target_as_it_was(pair: LoadedPair) -> None:
    target, drafter = pair.target, pair.drafter
    assert isinstance(drafter, CausalLm)
    own = {parameter.data_ptr() for parameter in target.model.parameters()}  # type: ignore[attr-defined]
    cut = list(drafter.lm.model.parameters())
    assert {parameter.data_ptr() for parameter in cut} <= own
    assert 0 < len(cut) < len(list(target.model.parameters()))  # type: ignore[attr-defined]
    assert len(drafter.lm.decoder.layers) == LAYERS  # type: ignore[arg-type]
    assert len(target.layers) > LAYERS  # type: ignore[attr-defined]


@torch.inference_mode()
def test_every_chain_is_that_of_a_model_of_so_many_layers(drafted: list, naive: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(naive, attn_implementation="eager").eval()
    assert model.config.num_hidden_layers == LAYERS
    for trajectory, result in drafted[:2]:
        maps = model(trajectory.ids[None, :-1], output_attentions=True).attentions
        assert result.fresh.masses.label.shape[0] == len(maps) == LAYERS
        for place in range(result.n_anchors):
            text = trajectory.ids[: trajectory.prompt_length + place + 1]
            for depth in range(DEPTH):
                forced = model(trajectory.ids[None, : trajectory.prompt_length + place + 1 + depth]).logits[0, -1].softmax(-1)
                assert int(result.forced[depth].guesses.drafted[place]) == int(forced.argmax())
                assert float(result.forced[depth].guesses.draft_prob[place]) == pytest.approx(float(forced.max()), abs=1e-5)
                free = model(text[None]).logits[0, -1]
                assert int(result.free[depth].guesses.drafted[place]) == int(free.argmax())
                text = torch.cat([text, free.argmax()[None]])


def test_accepted_equals_the_early_exit_generation_of_transformers(drafted: list, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = AutoModelForCausalLM.from_pretrained(models / "target").eval()
    target.generation_config.num_assistant_tokens, target.generation_config.num_assistant_tokens_schedule = DEPTH, "constant"
    target.generation_config.assistant_confidence_threshold = 0
    rounds, compared = kept_by_generate(EarlyExitCandidateGenerator, monkeypatch), 0
    for trajectory, result in drafted:
        rounds.clear()
        start, n = trajectory.prompt_length, result.n_anchors
        match = [q.guesses.drafted.numpy() == trajectory.ids[start + d : start + d + n].numpy() for d, q in enumerate(result.forced, 1)]
        kept = leading_matches(np.stack(match, axis=1))
        new = len(trajectory.ids) - start
        out = target.generate(trajectory.ids[None, :start], assistant_early_exit=LAYERS, max_new_tokens=new, do_sample=False)
        assert out[0].tolist() == trajectory.ids.tolist()
        for anchor, matched in rounds:
            if start <= anchor < start + n:
                assert matched == kept[anchor - start]
                compared += 1
    assert compared > 10


def test_a_served_exit_drafts_what_the_engine_drafts(drafted: list, pair: LoadedPair) -> None:
    trajectory, result = drafted[0]
    served = serve(pair.drafter, len(trajectory.ids) + DEPTH, DEPTH)
    (guesses,) = served_chains(served, trajectory, DEPTH, [0]).tolist()
    assert guesses == [int(queries.guesses.drafted[0]) for queries in result.free]


def test_exits_that_a_target_does_not_have_are_refused_in_a_sentence(models: Path, usage: Callable[..., str]) -> None:
    target = str(models / "target")
    layers = json.loads((models / "target" / "config.json").read_text())["num_hidden_layers"]
    for count in (0, layers, 99):
        said = f"--drafter early-exit:{count}: {target} has {layers} layers, expected an exit behind one of 1 to {layers - 1}"
        assert usage(target, f"early-exit:{count}") == said
    for name in ("early-exit", "early-exit:", "early-exit:x", "early-exit:-1"):
        assert usage(target, name) == f"--drafter {name}: expected the number of the target's layers that draft, as early-exit:4"
    assert usage(target, "early-exit:2", "as_trained").startswith("--reading as_trained: an early exit runs the target's own layers, which")


def test_a_target_in_vllm_has_no_layers_here(models: Path, tmp_path: Path) -> None:
    with pytest.raises(PairError, match=r"--drafter early-exit:2: the layers are the target's own, which vLLM holds; use --engine"):
        load_pair(str(models / "target"), "early-exit:2", torch.device("cpu"), "float32", vllm=InVllm({}, tmp_path))
